import { Collection, Db } from "npm:mongodb";
import { freshID } from "@utils/database.ts";
import { ID } from "@utils/types.ts";

type Member = ID;

interface MemberDoc {
  _id: Member;
  name: string;
}

/**
 * @concept Membership [Member]
 * @purpose know members by a name
 * @principle after a person joins under a name, the name leads to this member
 */
export default class MembershipConcept {
  private readonly members: Collection<MemberDoc>;

  constructor(private readonly db: Db) {
    this.members = this.db.collection("Membership.members");
  }

  /**
   * **requires** no member has this name
   *
   * **effects** adds a member
   */
  async join({ name }: { name: string }): Promise<{ member: Member } | { error: string }> {
    if (await this.members.findOne({ name })) return { error: `${name} is a member` };
    const member = freshID() as Member;
    await this.members.insertOne({ _id: member, name });
    return { member };
  }

  async _byName({ name }: { name: string }): Promise<{ member: Member }[]> {
    const found = await this.members.findOne({ name });
    return found ? [{ member: found._id }] : [];
  }

  async _names({}: Record<string, never>): Promise<{ name: string }[]> {
    const found = await this.members.find().toArray();
    return found.map(({ name }) => ({ name }));
  }
}
