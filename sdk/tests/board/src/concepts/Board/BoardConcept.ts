import { Collection, Db } from "npm:mongodb";
import { freshID } from "@utils/database.ts";
import { Empty, ID } from "@utils/types.ts";

type Author = ID;
type Card = ID;

interface CardDoc {
  _id: Card;
  author: Author;
  text: string;
  pinned: boolean;
}

/**
 * @concept Board [Author, Card]
 * @purpose show short texts to all members
 * @principle after an author posts a text, it is among the cards of this author
 */
export default class BoardConcept {
  private readonly cards: Collection<CardDoc>;

  constructor(private readonly db: Db) {
    this.cards = this.db.collection("Board.cards");
  }

  /**
   * **requires** the text is not empty
   *
   * **effects** adds a card
   */
  async post(
    { author, text }: { author: Author; text: string },
  ): Promise<{ card: Card } | { error: string }> {
    if (text === "") return { error: "a card has a text" };
    const card = freshID() as Card;
    await this.cards.insertOne({ _id: card, author, text, pinned: false });
    return { card };
  }

  /**
   * **requires** the card exists
   *
   * **effects** pins the card
   */
  async pin({ card }: { card: Card }): Promise<Empty | { error: string }> {
    const changed = await this.cards.updateOne({ _id: card }, { $set: { pinned: true } });
    if (changed.matchedCount === 0) return { error: "there is no such card" };
    return {};
  }

  async _cards({ author }: { author: Author }): Promise<{ card: CardDoc }[]> {
    const found = await this.cards.find({ author }).toArray();
    return found.map((card) => ({ card }));
  }
}
