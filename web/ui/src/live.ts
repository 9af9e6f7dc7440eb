// What the page knows: the status, the newest events, and whether the node can be heard at all.
//
// One stream feeds everything. It resumes behind the last event seen, so nothing is lost or shown
// twice over a reconnect. A tab nobody looks at lets go of it: browsers allow six connections.

import { computed, reactive, ref, shallowRef } from "vue";

import type { Commands, Payloads, PeerView, Refusal, Status, Stored } from "./api";
import { ask, keepToken, Locked, stream, takeToken, type Message } from "./client";

export const EVENTS_MAX = 500;
const FIRST_EVENTS = 200;
const RTT_SAMPLES_MAX = 60;
const SILENCE_MS_MAX = 40_000; // the node sends something every 15 s
const BACKOFF_MS_MIN = 400;
const BACKOFF_MS_MAX = 8_000;
const HIDDEN_MS_MAX = 30_000;
const GATHER_MS = 50; // a burst of events is drawn at once

export type Link = "connecting" | "live" | "lost" | "locked";

export const link = ref<Link>("connecting");
export const status = shallowRef<Status | null>(null);
export const readOnly = ref(false);
export const events = shallowRef<readonly Stored[]>([]);
export const rtts = reactive(new Map<string, number[]>());
export const refusal = shallowRef<Refusal | null>(null);
export const busy = ref(false);

const names = reactive(new Map<string, string>());
let lastEventId = "";
let gathered: Stored[] = [];
let abort = new AbortController();
let wake: () => void = () => {};

/** Why this computer is in no party any more, as the newest event about it says; else empty. */
export const parting = computed(() => {
  const last = events.value.findLast((each) => /^party\.(entered|exited)$/.test(each.type));
  if (last?.type !== "party.exited") return "";
  return (last.data as Payloads["party.exited"]).reason;
});

export function nameOf(peer: string): string {
  return names.get(peer) ?? `${peer.slice(0, 8)}…`;
}

/** Give a command to the node. A refusal is shown; the result is null then. */
export async function command<P extends keyof Commands>(
  path: P,
  body: Commands[P],
): Promise<Record<string, string> | null> {
  busy.value = true;
  refusal.value = null;
  const outcome = await ask(path, body);
  busy.value = false;
  if ("done" in outcome) return outcome.done;
  refusal.value = outcome.refusal;
  return null;
}

export function unlock(token: string): void {
  keepToken(token.trim().replace(/^.*#token=/, ""));
  wake();
}

export function reconnectNow(): void {
  wake();
}

export function start(): void {
  if (!takeToken()) link.value = "locked";
  addEventListener("hashchange", () => {
    if (takeToken()) wake();
  });
  letGoWhenHidden();
  setInterval(sampleRtts, 1000);
  void followForEver();
}

function letGoWhenHidden(): void {
  let timer = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => abort.abort(), HIDDEN_MS_MAX);
    else wake();
  });
}

async function followForEver(): Promise<void> {
  let backoff = BACKOFF_MS_MIN;
  for (;;) {
    if (link.value === "locked") await pause(Infinity);
    if (document.hidden && abort.signal.aborted) await pause(Infinity);
    const heard = await followOnce();
    backoff = heard ? BACKOFF_MS_MIN : Math.min(backoff * 2, BACKOFF_MS_MAX);
    if (link.value !== "locked") await pause(backoff * (0.75 + Math.random() / 2));
  }
}

/** Wait, or be woken by the user (a new token, "try now", the tab shown again). */
function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = ms === Infinity ? 0 : setTimeout(resolve, ms);
    wake = () => {
      clearTimeout(timer);
      if (link.value === "locked") link.value = "connecting";
      resolve();
    };
  });
}

/** One connection, to its end. True if anything was heard on it. */
async function followOnce(): Promise<boolean> {
  abort = new AbortController();
  let heard = false;
  let watchdog = 0;
  const listen = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => abort.abort(), SILENCE_MS_MAX);
  };
  listen();
  try {
    const url = `/api/events/stream?after=-${FIRST_EVENTS}`;
    for await (const message of stream(url, lastEventId, abort.signal)) {
      heard = true;
      link.value = "live";
      listen();
      take(message);
    }
  } catch (error) {
    if (error instanceof Locked) link.value = "locked";
  }
  clearTimeout(watchdog);
  if (link.value !== "locked") link.value = heard || status.value ? "lost" : "connecting";
  return heard;
}

function take(message: Message): void {
  if (message.id) lastEventId = message.id;
  if (!message.data) return;
  if (message.event === "status") takeStatus(JSON.parse(message.data));
  else if (message.event === "hello") readOnly.value = JSON.parse(message.data).read_only;
  else if (message.event === "reset") forgetEvents();
  else takeEvent(JSON.parse(message.data));
}

function takeStatus(next: Status): void {
  names.set(next.node.id, next.node.name);
  for (const peer of next.peers) {
    names.set(peer.id, peer.name);
  }
  status.value = next;
}

/** Once a second, so that the line of a member is its last minute, however seldom it changes. */
function sampleRtts(): void {
  if (link.value === "live") status.value?.peers.forEach(takeRtt);
}

function takeRtt(peer: PeerView): void {
  const samples = rtts.get(peer.id) ?? [];
  if (!peer.path) samples.length = 0;
  else samples.push(peer.path.rtt_ms);
  if (samples.length > RTT_SAMPLES_MAX) samples.shift();
  rtts.set(peer.id, samples);
}

function takeEvent(stored: Stored): void {
  if (gathered.length === 0) setTimeout(showEvents, GATHER_MS);
  gathered.push(stored);
}

function showEvents(): void {
  gathered.forEach(learnName);
  events.value = [...events.value, ...gathered].slice(-EVENTS_MAX);
  gathered = [];
}

function forgetEvents(): void {
  gathered = [];
  events.value = [];
}

function learnName(stored: Stored): void {
  const data = stored.data as Payloads["peer.joined"] & Payloads["party.created"];
  if (stored.type === "party.created") names.set(data.founder, data.founder_name);
  if (["peer.joined", "peer.renamed", "session.started"].includes(stored.type)) {
    names.set(data.peer, data.name);
  }
}
