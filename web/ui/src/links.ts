// The newest invite link this tab made, by party. The node keeps no links: an invite's seed is a
// secret that leaves it once. So a reload of the page may show it again, another tab cannot.

import { reactive } from "vue";

const KEY = "lanrage.links";

export const links = reactive<Record<string, string>>(
  JSON.parse(sessionStorage.getItem(KEY) ?? "{}"),
);

export function keepLink(party: string, link: string): void {
  links[party] = link;
  sessionStorage.setItem(KEY, JSON.stringify(links));
}

export function forgetLink(party: string): void {
  delete links[party];
  sessionStorage.setItem(KEY, JSON.stringify(links));
}
