import { actions, Frames, Sync } from "@engine";
import { Board, Membership, Requesting } from "@concepts";

/** Posts a card as the member with this name. */
export const PostRequest: Sync = ({ request, name, text, member }) => ({
  when: actions([Requesting.request, { path: "/Board/post", name, text }, { request }]),
  where: (frames) => frames.query(Membership._byName, { name }, { member }),
  then: actions([Board.post, { author: member, text }]),
});

export const PostResponse: Sync = ({ request, card }) => ({
  when: actions(
    [Requesting.request, { path: "/Board/post" }, { request }],
    [Board.post, {}, { card }],
  ),
  then: actions([Requesting.respond, { request, card }]),
});

export const PinRequest: Sync = ({ request, card }) => ({
  when: actions([Requesting.request, { path: "/Board/pin", card }, { request }]),
  then: actions([Board.pin, { card }]),
});

export const PinResponse: Sync = ({ request }) => ({
  when: actions(
    [Requesting.request, { path: "/Board/pin" }, { request }],
    [Board.pin, {}, {}],
  ),
  then: actions([Requesting.respond, { request, pinned: true }]),
});

/** All cards of a member, or an empty list. */
export const CardsRequest: Sync = ({ request, name, member, card, cards }) => ({
  when: actions([Requesting.request, { path: "/Board/cards", name }, { request }]),
  where: async (frames) => {
    const original = frames[0];
    frames = await frames.query(Membership._byName, { name }, { member });
    frames = await frames.query(Board._cards, { author: member }, { card });
    if (frames.length === 0) return new Frames({ ...original, [cards]: [] });
    return frames.collectAs([card], cards);
  },
  then: actions([Requesting.respond, { request, cards }]),
});

/** The order of frames has no counterpart in a rule. */
export const LatestRequest: Sync = ({ request, name, member, card }) => ({
  when: actions([Requesting.request, { path: "/Board/latest", name }, { request }]),
  where: async (frames) => {
    frames = await frames.query(Membership._byName, { name }, { member });
    frames = await frames.query(Board._cards, { author: member }, { card });
    const sorted = [...frames].sort((a, b) => String(b[card]).localeCompare(String(a[card])));
    return new Frames(...sorted.slice(0, 1));
  },
  then: actions([Requesting.respond, { request, card }]),
});
