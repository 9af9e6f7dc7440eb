// Figures as people read them.

export function until(at: number): string {
  const minutes = Math.max(0, Math.round((at - Date.now()) / 60_000));
  if (minutes < 90) return `${minutes} min left`;
  const hours = Math.round(minutes / 60);
  return hours < 36 ? `${hours} h left` : `${Math.round(hours / 24)} days left`;
}

export function clock(at: number): string {
  return new Date(at).toLocaleTimeString([], { hour12: false });
}

/** The local day of a moment, in the reader's own words. */
export function dayOf(at: number): string {
  return new Date(at).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
}

export function today(): string {
  return dayOf(Date.now());
}

const RTT_FAIR_MS = 60; // shooters begin to feel it
const RTT_POOR_MS = 120; // so does everything else

export function feel(ms: number): "good" | "fair" | "poor" {
  if (ms < RTT_FAIR_MS) return "good";
  return ms < RTT_POOR_MS ? "fair" : "poor";
}

export function rtt(ms: number): string {
  return ms < 10 ? ms.toFixed(1) : String(Math.round(ms));
}

export function bytes(n: number): string {
  if (n < 1000) return `${n} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = n / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A hue for a member, the same everywhere, from its id. */
export function hue(id: string): number {
  let sum = 0;
  for (const char of id) sum = (sum * 31 + (char.codePointAt(0) ?? 0)) % 360;
  return sum;
}
