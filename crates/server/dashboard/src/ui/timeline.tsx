// A task's story as a timeline: a bar of what its time went into, then each step.

import { stepsOf, type Step, type Stretch, type StoryEvent } from '../state/timeline.ts';
import { StatusShape } from './status.tsx';
import { countText, durationText, Time } from './time.tsx';

export function Timeline({ events, outputs }: { events: readonly StoryEvent[]; outputs: number }) {
  const steps = stepsOf(events);
  return (
    <ol class="timeline">
      {steps.map((step, index) => <StepItem key={index} step={step} />)}
      {outputs > 0 && <li class="since"><span class="faint">{outputsText(outputs)} since</span></li>}
    </ol>
  );
}

function StepItem({ step }: { step: Step }) {
  const before = [
    step.before && `${step.before.word} ${durationText(step.before.ms)}`,
    step.outputs > 0 && outputsText(step.outputs),
  ].filter(Boolean).join(', ');
  return (
    <>
      {before !== '' && <li class="since"><span class="faint">{before}</span></li>}
      <li class={`step is-${step.status}`}>
        <StatusShape status={step.status} />
        <span class="title">{step.title}</span>
        <Time ms={step.at} />
        {step.detail !== '' && <p class="detail">{step.detail.slice(0, 500)}</p>}
      </li>
    </>
  );
}

function outputsText(count: number): string {
  return count === 1 ? '1 output' : `${countText(count)} outputs`;
}

/** Stretches of time on one line from `from` to `to`. */
export function Bars({ stretches, from, to, label }: { stretches: readonly Stretch[]; from: number; to: number; label: string }) {
  const whole = Math.max(1, to - from);
  return (
    <span class="bars" role="img" aria-label={label}>
      {stretches.map((stretch, index) => (
        <span key={index} class={`stretch is-${stretch.kind}`} title={`${stretch.kind} ${durationText(stretch.to - stretch.from)}`}
          style={{
            left: `${(100 * (stretch.from - from)) / whole}%`,
            width: `${(100 * (stretch.to - stretch.from)) / whole}%`,
          }} />
      ))}
    </span>
  );
}
