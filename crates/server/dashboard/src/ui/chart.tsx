// Two small charts of the last two minutes: how many tasks ended in each second, and how long they had run.

import type { Meter, Second } from '../state/meter.ts';
import { percentile, SECONDS } from '../state/meter.ts';
import { countText, durationText, second } from './time.tsx';

const WIDTH = 240;
const HEIGHT = 36;
/** What is told in numbers is of so many seconds. */
const RECENT = 10;

export function Charts({ meter, now, isStale }: { meter: Meter; now: number; isStale: boolean }) {
  second.value;
  const seconds = meter.seconds(now);
  const recent = seconds.slice(-RECENT);
  const ended = recent.reduce((sum, it) => sum + it.completed + it.failed, 0);
  const took = recent.flatMap((it) => it.took);
  const [p50, p95] = [percentile(took, 0.5), percentile(took, 0.95)];
  const rate = ended / RECENT;
  return (
    <div class={`charts${isStale ? ' is-stale' : ''}`}>
      <figure>
        <figcaption>Ended <b>{rateText(rate)}/s</b></figcaption>
        <Throughput seconds={seconds} />
      </figure>
      <figure>
        <figcaption>
          Ran for {p50 === null ? <b>–</b> : <><b>{durationText(p50)}</b> <span class="faint">p95 {durationText(p95 ?? p50)}</span></>}
        </figcaption>
        <Latency seconds={seconds} />
      </figure>
    </div>
  );
}

function Throughput({ seconds }: { seconds: Second[] }) {
  const most = Math.max(4, ...seconds.map((it) => it.completed + it.failed));
  const bars = (of: (it: Second) => [number, number]) => seconds.map((it, index) => {
    const [from, to] = of(it);
    return to > from ? `M${x(index)} ${y(from, most)}V${y(to, most)}` : '';
  }).join('');
  return (
    <Frame label={`Tasks ended in each of the last ${SECONDS} seconds, at most ${most}`}>
      <path class="bar is-completed" d={bars((it) => [0, it.completed])} />
      <path class="bar is-failed" d={bars((it) => [it.completed, it.completed + it.failed])} />
    </Frame>
  );
}

function rateText(rate: number): string {
  if (rate === 0) return '0';
  return rate < 10 ? rate.toFixed(1) : countText(Math.round(rate));
}

/** From the middle one to the one that 95 of 100 are not above, on a scale of powers. */
function Latency({ seconds }: { seconds: Second[] }) {
  const of = seconds.map((it) => [percentile(it.took, 0.5), percentile(it.took, 0.95)] as const);
  const most = Math.max(1_000, ...of.map(([, p95]) => p95 ?? 0));
  const scale = (ms: number) => Math.log1p(ms);
  const lines = of.map(([p50, p95], index) => p50 === null ? '' :
    `M${x(index)} ${y(scale(p50) - scale(most) / 30, scale(most))}V${y(scale(p95 ?? p50) + scale(most) / 30, scale(most))}`);
  return (
    <Frame label={`How long the tasks ran that ended in each of the last ${SECONDS} seconds, at most ${durationText(most)}`}>
      <path class="bar is-latency" d={lines.join('')} />
    </Frame>
  );
}

function Frame({ label, children }: { label: string; children: preact.ComponentChildren }) {
  return (
    <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="base" d={`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
      {children}
    </svg>
  );
}

function x(index: number): string {
  return ((index + 0.5) * WIDTH / SECONDS).toFixed(1);
}

function y(value: number, most: number): string {
  const share = Math.min(1, Math.max(0, value / most));
  return (HEIGHT - 1 - share * (HEIGHT - 4)).toFixed(1);
}
