// The newest invite link this tab made, by party. The node keeps no links: an invite's seed is a
// secret that leaves it once. So a reload of the page may show it again, another tab cannot.

import { reactive } from "vue";

import type { InviteView, NodeView, PartyView } from "./api";

const KEY = "lanrage.links";

interface Kept {
  id: string;
  link: string;
}

const kept = reactive<Record<string, Kept>>(JSON.parse(sessionStorage.getItem(KEY) ?? "{}"));

/** Remember the link in a command's answer, if there is one. */
export function keepLink(answer: Record<string, string> | null): void {
  if (!answer?.party || !answer.invite) return;
  kept[answer.party] = { id: answer.id ?? "", link: answer.invite };
  sessionStorage.setItem(KEY, JSON.stringify(kept));
}

function isOpen(invite: InviteView): boolean {
  return !invite.revoked && invite.uses_left > 0 && invite.expires_at > Date.now();
}

export function openInvites(party: PartyView): InviteView[] {
  return party.invites.filter(isOpen);
}

/** The kept link, while somebody can still join with it; else empty. */
export function linkOf(party: PartyView): string {
  const mine = kept[party.id];
  const known = party.invites.find((each) => each.id === mine?.id);
  return mine && (!known || isOpen(known)) ? mine.link : "";
}

/** RFC 1918, RFC 6598, loopback, link-local: what nobody outside this network can send to. */
const INSIDE = /^(0|10|127|169\.254|192\.168|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\./;

/** Whether only this network reaches the party's control, because it runs here behind a router. */
export function staysInside(party: PartyView, node: NodeView): boolean {
  const outside = (each: string) => !each.startsWith("[") && !INSIDE.test(each);
  return party.control_embedded && !node.nat.candidates.some(outside);
}
