// Times and durations, as people read them.

import { signal } from '@preact/signals';

/** Changes every second, while the page is looked at: what shows elapsed times reads it. */
export const second = signal(0);

if (typeof document !== 'undefined') {
  setInterval(() => {
    if (!document.hidden) second.value += 1;
  }, 1_000);
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
const DATED = new Intl.DateTimeFormat(undefined, {
  month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false,
});

/** The time of day, with the day if it is not today's. */
export function timeText(ms: number): string {
  const isToday = new Date(ms).toDateString() === new Date().toDateString();
  return (isToday ? CLOCK : DATED).format(ms);
}

/** A time, local, with its exact moment in the title; a dash where it is not known. */
export function Time({ ms }: { ms: number }) {
  if (ms === 0) return <span class="none">–</span>;
  const iso = new Date(ms).toISOString();
  return <time dateTime={iso} title={iso}>{timeText(ms)}</time>;
}

/** 7 ms, 1.4 s, 2 min 05 s, 3 h 20 min, 4 d 6 h. */
export function durationText(ms: number): string {
  if (ms < 0) return '0 ms';
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600)];
  if (minutes < 60) return `${minutes} min ${pad(seconds % 60)} s`;
  if (hours < 24) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The same for what still runs: without parts of a second, which would flicker. */
export function runningText(ms: number): string {
  return ms < 60_000 ? `${Math.max(0, Math.floor(ms / 1_000))} s` : durationText(ms);
}

function pad(number: number): string {
  return String(number).padStart(2, '0');
}

const WHOLE = new Intl.NumberFormat('en');

export function countText(count: number): string {
  return WHOLE.format(count);
}

/** 1.2 KiB, 5.0 MiB. */
export function sizeText(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  if (bytes < 1 << 20) return `${(bytes / 1_024).toFixed(1)} KiB`;
  return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}
