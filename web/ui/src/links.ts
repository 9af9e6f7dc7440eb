// The newest invite link this tab made, by party. The node keeps no links: an invite's seed is a
// secret that leaves it once. So a reload of the page may show it again, another tab cannot.

import { reactive } from "vue";

import type { InviteView, PartyView } from "./api";

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
