// Talking to the node: the token, commands, and server-sent events by fetch.
//
// EventSource cannot send an Authorization header, and a token in a URL ends up in histories and
// logs; so the stream is read from a fetch body. The wire format is WHATWG HTML 9.2.

import type { Commands, Refusal } from "./api";

const TOKEN_KEY = "lanrage.token";

export type Outcome<T> = { done: T } | { refusal: Refusal };

export interface Message {
  id: string;
  event: string;
  data: string;
}

/** The token arrives in the fragment, which no server sees; it is kept for this tab only. */
export function takeToken(): string {
  const match = /^#token=([\w-]+)$/.exec(location.hash);
  if (match?.[1]) {
    sessionStorage.setItem(TOKEN_KEY, match[1]);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN_KEY) ?? "";
}

export function keepToken(token: string): void {
  sessionStorage.setItem(TOKEN_KEY, token);
}

function headers(): Record<string, string> {
  return { Authorization: `Bearer ${sessionStorage.getItem(TOKEN_KEY) ?? ""}` };
}

function unreachable(): Refusal {
  return {
    code: "unreachable",
    what: "Cannot reach LANrage",
    why: "it is not running on this computer any more",
    fix: "Start it again with `sudo make up`.",
  };
}

export async function ask<P extends keyof Commands>(
  path: P,
  body: Commands[P],
): Promise<Outcome<Record<string, string>>> {
  try {
    const response = await post(path, body);
    return response.ok ? { done: await response.json() } : { refusal: await response.json() };
  } catch {
    return { refusal: unreachable() };
  }
}

/** The QR code of `text` as an object URL for an <img>: a picture there cannot run scripts. */
export async function qrUrl(text: string): Promise<string> {
  const response = await post("/api/qr", { text });
  return response.ok ? URL.createObjectURL(await response.blob()) : "";
}

function post(path: string, body: unknown): Promise<Response> {
  return fetch(path, {
    method: "POST",
    headers: { ...headers(), "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

export class Locked extends Error {}

/** One connection's messages, until it ends. Throws `Locked` if the token is not accepted. */
export async function* stream(
  url: string,
  lastEventId: string,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  const resume: Record<string, string> = lastEventId ? { "Last-Event-ID": lastEventId } : {};
  const response = await fetch(url, { headers: { ...headers(), ...resume }, signal });
  if (response.status === 401) throw new Locked();
  if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + text).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop() ?? "";
    yield* blocks.map(parse);
  }
}

function parse(block: string): Message {
  const message: Message = { id: "", event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [field, value = ""] = line.split(/: ?(.*)/s, 2);
    if (field === "id") message.id = value;
    if (field === "event") message.event = value;
    if (field === "data") message.data += value;
  }
  return message;
}
