// The newest invite link this tab made, by party. The node keeps no links: an invite's seed is a
// secret that leaves it once. So a reload of the page may show it again, another tab cannot.

import { reactive } from "vue";

import type { PartyView } from "./api";

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

export function openInvites(party: PartyView): PartyView["invites"] {
  const now = Date.now();
  return party.invites.filter(
    (each) => !each.revoked && each.uses_left > 0 && each.expires_at > now,
  );
}

/** The kept link, while somebody can still join with it; else empty. */
export function linkOf(party: PartyView): string {
  const mine = kept[party.id];
  return mine && openInvites(party).some((each) => each.id === mine.id) ? mine.link : "";
}
