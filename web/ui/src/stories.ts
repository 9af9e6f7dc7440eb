// One line in words for every event type. A type without a line does not compile; one that this
// page has never heard of (from a newer LANrage) is shown by its name.

import type { Candidate, PathQuality, Payloads, Stored } from "./api";

type Who = (peer: string) => string;
type Stories = { [T in keyof Payloads]: (data: Payloads[T], who: Who) => string };

export const TOPICS = ["session", "party", "peer", "nat", "relay", "path", "tunnel", "profile"] as const;

export const ABOUT: Record<(typeof TOPICS)[number], string> = {
  session: "LANrage starting and stopping",
  party: "The party, its invites and its control server",
  peer: "Who comes and goes",
  nat: "How this computer looks from outside",
  relay: "Relays, for what cannot go directly",
  path: "The ways to other members",
  tunnel: "The encrypted sessions",
  profile: "Settings for a game",
};

export function topicOf(stored: Stored): string {
  return stored.type.split(".", 1)[0] ?? "";
}

export function story(stored: Stored, who: Who): string {
  const type = stored.type.replace(/\/\d+$/, "") as keyof Payloads;
  const tell = STORIES[type] as ((data: unknown, who: Who) => string) | undefined;
  try {
    return tell ? tell(stored.data, who) : stored.type;
  } catch {
    return stored.type; // a newer shape under a known name
  }
}

const path = (each: PathQuality): string =>
  `${each.kind === "direct" ? "" : `${each.kind} `}${each.address} (${ms(each.rtt_us / 1000)})`;
const ms = (value: number): string => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const because = (reason: string): string => (reason ? `: ${reason}` : "");
const count = (n: number, word: string): string => `${n} ${word}${n === 1 ? "" : "s"}`;
const addresses = (all: Candidate[]): string =>
  all.length === 0 ? "nowhere" : all.map((each) => each.address).join(", ");


const MAPPING: Record<string, string> = {
  none: "no NAT",
  independent: "one port for all",
  address: "a port for each address",
  port: "a port for each destination",
  blocked: "UDP blocked",
};
const FILTERING: Record<string, string> = {
  none: "no filter",
  independent: "lets everybody in",
  address: "lets in known addresses",
  port: "lets in known ports",
};

function router(mapping: string, filtering: string, hairpin: string): string {
  const leadsBack = { yes: "leads back in", no: "does not lead back in" }[hairpin];
  const words = [MAPPING[mapping], FILTERING[filtering], leadsBack].filter(Boolean);
  return words.join(", ") || "not known";
}

const STORIES: Stories = {
  "session.started": (d) => `LANrage ${d.version} started as ${d.name}`,
  "session.ended": (d) =>
    d.reason === "stopped" ? "LANrage stopped" : `LANrage stopped${because(d.reason)}`,
  "session.resumed": (d) => `The computer woke up after ${Math.round(d.asleep_ms / 1000)} s`,
  "session.carried": () => "The state this export begins with",

  "party.entered": (d) =>
    d.embedded ? "Entered the party; its control runs here" : `Entered the party at ${d.control[0]}`,
  "party.exited": (d) =>
    d.reason === "left" ? "Left the party" : `Out of the party${because(d.reason)}`,
  "party.join_failed": (d) => `Could not join${because(d.reason)}`,
  "party.created": (d) => `${d.founder_name} founded “${d.name}”`,
  "party.renamed": (d, who) => `${who(d.author)} renamed the party to “${d.name}”`,
  "party.invite_issued": (d, who) =>
    `${who(d.author)} made an invite for ${count(d.uses, "player")}`,
  "party.invite_revoked": (d, who) => `${who(d.author)} revoked an invite`,
  "party.forked": (d) => `Control showed a false history, refused${because(d.reason)}`,
  "party.control_connected": (d) => `Connected to control at ${d.url}`,
  "party.offered": () => "Made a code for one friend, to meet without a server",
  "party.answered": (d) => `Codes exchanged: trying ${d.address}, no server in between`,
  "party.pact_ended": (d) => `The exchange of codes ended${because(d.reason)}`,
  "party.control_lost": (d) => `Lost control at ${d.url}${because(d.reason)}`,

  "peer.joined": (d) => `${d.name} joined as ${d.address}`,
  "peer.left": (d, who) => `${who(d.peer)} left the party`,
  "peer.kicked": (d, who) => `${who(d.author)} removed ${who(d.peer)}`,
  "peer.renamed": (d) => `A member is now called ${d.name}`,
  "peer.online": (d, who) => `${who(d.peer)} is online`,
  "peer.offline": (d, who) => `${who(d.peer)} is offline${because(d.reason)}`,
  "peer.candidates": (d, who) => `${who(d.peer)} can be reached at ${addresses(d.candidates)}`,

  "peer.nat": (d, who) =>
    `The router of ${who(d.peer)}: ${router(d.mapping, d.filtering, d.hairpin)}`,

  "nat.gathered": (d) => `This computer can be reached at ${addresses(d.candidates)}`,
  "nat.mapped": (d) => `${d.server} sees this computer as ${d.mapped} (${ms(d.rtt_ms)})`,
  "nat.unmapped": (d) => `No answer from ${d.server}${because(d.reason)}`,
  "nat.labelled": (d) => `The router looks like: ${d.label}`,
  "nat.port_mapped": (d) =>
    `The router opened ${d.external} for ${d.protocol.toUpperCase()} port ${d.port} (${d.method})`,
  "nat.port_unmapped": (d) =>
    `The router opens nothing for ${d.protocol.toUpperCase()} port ${d.port}${because(d.reason)}`,
  "nat.classified": (d) => `The router here: ${router(d.mapping, d.filtering, d.hairpin)}`,
  "nat.network": (d) =>
    d.network
      ? `On the network behind ${d.gateway || "no gateway"}${because(d.reason)}`
      : `On no network${because(d.reason)}`,

  "relay.offered": (d) => `Relay ${d.relay} is on offer${d.region ? ` in ${d.region}` : ""}`,
  "relay.withdrawn": (d) => `Relay ${d.relay} is on offer no more${because(d.reason)}`,
  "relay.bound": (d) =>
    `Relay ${d.relay} knows us${d.carrier === "tcp" ? " over TCP" : ""}, ${ms(d.rtt_us / 1000)} away`,
  "relay.unbound": (d) => `Relay ${d.relay} does not know us any more${because(d.reason)}`,
  "relay.picked": (d, who) =>
    d.relay
      ? `For ${who(d.peer)} the relay is ${d.relay}, ${ms(d.sum_ms)} in all${because(d.reason)}`
      : `No relay for ${who(d.peer)}${because(d.reason)}`,

  "path.probing": (d, who) => `Trying ${d.addresses.length === 1 ? "1 address" : `${d.addresses.length} addresses`} of ${who(d.peer)}`,
  "path.opened": (d, who) => `Path to ${who(d.peer)}: ${path(d.path)}, found in ${ms(d.took_ms)}`,
  "path.switched": (d, who) =>
    `Better path to ${who(d.peer)}: ${path(d.new)} instead of ${path(d.old)}${because(d.reason)}`,
  "path.lost": (d, who) => `Lost ${who(d.peer)} at ${d.old.address}${because(d.reason)}`,
  "path.doubted": (d, who) =>
    `${who(d.peer)} is silent for ${ms(d.silent_ms)} at ${d.path.address}` +
    (d.second ? `; sending through ${path(d.second)}, too` : "; there is no second path"),
  "path.trusted": (d, who) =>
    `${who(d.peer)} answers again at ${d.path.address} after ${ms(d.after_ms)}`,
  "path.failed": (d, who) => `No path to ${who(d.peer)}${because(d.reason)}`,

  "tunnel.started": (d) => `Tunnel on ${d.interface}, UDP port ${d.port}`,
  "tunnel.configured": (d) => `This computer is ${d.address} in the party`,
  "tunnel.stopped": (d) => `Tunnel stopped${because(d.reason)}`,
  "tunnel.established": (d, who) => `Encrypted session with ${who(d.peer)} in ${ms(d.took_ms)}`,
  "tunnel.expired": (d, who) => `Session with ${who(d.peer)} ended${because(d.reason)}`,

  "profile.chosen": (d) => `Profile ${d.profile} (${d.reason}), MTU ${d.mtu}`,
};
