// Who ran when: the agents of a run and their tasks, each with a bar on one axis of time.

import { hasEnded, STATUS_WORDS } from '../protocol/types.ts';
import type { Row } from '../state/fold.ts';
import { begin, type Run } from '../state/runs.ts';
import { stretchesOfTimes } from '../state/timeline.ts';
import { Link } from './link.tsx';
import { StatusShape } from './status.tsx';
import { pageOf } from './table.tsx';
import { durationText, runningText } from './time.tsx';
import { Bars } from './timeline.tsx';

/** Of more tasks nobody sees anything in one picture. */
const ROWS_MAX = 500;

export function Waterfall({ run, now }: { run: Run; now: number }) {
  const to = run.endedAt || now;
  const from = Math.min(run.beganAt, to);
  let left = ROWS_MAX;
  return (
    <div class="waterfall">
      <Axis from={from} to={to} />
      <ul class="tree">
        {run.agents.map((agent) => {
          const rows = agent.rows.slice(0, left);
          left -= rows.length;
          return (
            <li key={agent.name}>
              <p class="agent"><span class="faint">agent</span> {agent.name.slice(0, 100) || '(none)'} <span class="faint">· {agent.rows.length}</span></p>
              <ul>{rows.map((row) => <Task key={row.id} row={row} from={from} to={to} now={now} />)}</ul>
            </li>
          );
        })}
      </ul>
      {run.total > ROWS_MAX && <p class="note">The first {ROWS_MAX} of {run.total} tasks.</p>}
    </div>
  );
}

function Task({ row, from, to, now }: { row: Row; from: number; to: number; now: number }) {
  const length = hasEnded(row.status) ? durationText(row.endedAt - begin(row)) : runningText(now - begin(row));
  return (
    <li class="strand">
      <span class="label">
        <StatusShape status={row.status} />
        <span class="hidden">{STATUS_WORDS[row.status]}</span>
        <Link to={pageOf(row)} title={row.description.slice(0, 300) || undefined}>{row.tool.slice(0, 100) || '(no tool)'}</Link>
        {row.subagent !== '' && <span class="tag">{row.subagent.slice(0, 40)}</span>}
        {row.attempt > 1 && <span class="faint">×{row.attempt}</span>}
      </span>
      <Bars stretches={stretchesOfTimes(row, now)} from={from} to={to} label={`${STATUS_WORDS[row.status]}, ${length}`} />
      <span class="length">{length}</span>
    </li>
  );
}

/** Marks at whole parts of the time. */
function Axis({ from, to }: { from: number; to: number }) {
  const whole = Math.max(1, to - from);
  return (
    <div class="axis" aria-hidden="true">
      <span />
      <span class="marks">
        {[0, 0.25, 0.5, 0.75, 1].map((share) => (
          <span key={share} style={{ left: `${share * 100}%` }}>{share === 0 ? '0' : durationText(whole * share)}</span>
        ))}
      </span>
      <span />
    </div>
  );
}
