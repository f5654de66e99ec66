// A task: where it came from, how it stands, its story, what went in and what came out.

import { useCallback, useEffect, useMemo } from 'preact/hooks';
import { hasEnded, type TaskRecord } from '../protocol/types.ts';
import { address, go, href } from '../state/address.ts';
import { canAct, hasShortcuts, toLogin } from '../state/app.ts';
import { msOf } from '../state/fold.ts';
import { Story } from '../state/story.ts';
import { stretchesOf, stretchesOfTimes } from '../state/timeline.ts';
import { Actions } from './actions.tsx';
import { Connection, isKnown } from './connection.tsx';
import { Copy } from './copy.tsx';
import { useFrames } from './frames.ts';
import { JsonPanel } from './json.tsx';
import { useKeys } from './keys.ts';
import { Link } from './link.tsx';
import { Long } from './long.tsx';
import { OutputPanel } from './output.tsx';
import { Asked, ResumeForm } from './resume.tsx';
import { StatusMark } from './status.tsx';
import { Bars, Timeline } from './timeline.tsx';
import { Time, durationText, runningText, second } from './time.tsx';

export function TaskPage() {
  const id = address.value.query.get('id') ?? '';
  const story = useMemo(() => new Story(id), [id]);
  useEffect(() => () => story.close(), [story]);
  useKeys({ Escape: () => history.length > 1 ? history.back() : go(href('/')) }, hasShortcuts.value);
  const task = story.record.value;
  const problem = story.problem.value;
  useEffect(() => {
    if (problem?.status === 401) toLogin();
  }, [problem]);
  useEffect(() => {
    document.title = task ? `${task.toolName.slice(0, 60)} · Sidestream` : 'Sidestream';
  }, [task?.toolName]);
  if (!task) {
    return (
      <main id="content" tabIndex={-1} class="task">
        <div class="empty">
          {problem ? <><h1>{problem.status === 404 ? 'There is no such task' : 'Not shown'}</h1><p>{problem.message}</p></> : <p>Loading…</p>}
          {problem?.status === 404 && <p>Ended tasks are kept for a while, as the server's configuration says.</p>}
        </div>
      </main>
    );
  }
  return <Shown key={id} story={story} task={task} />;
}

function Shown({ story, task }: { story: Story; task: TaskRecord }) {
  useFrames(useCallback((listener) => story.listen(listener), [story]));
  const link = story.link.value;
  const take = (record: TaskRecord) => story.takeRecord(record);
  return (
    <main id="content" tabIndex={-1} class={`task${isKnown(link) ? '' : ' is-stale'}`} aria-labelledby="title">
      <header class="about">
        <div class="heading">
          <StatusMark status={task.status} />
          <h1 id="title"><Long text={task.toolName || '(no tool)'} max={120} /></h1>
          <Actions task={task} onDone={take} />
          <Connection link={link} />
        </div>
        {task.description !== undefined && <p class="description"><Long text={task.description} max={300} /></p>}
        <Origin task={task} />
      </header>
      {task.status === 'suspended' && (
        <section class="panel waits" aria-label="What it waits for">
          <header><h2>It waits for somebody</h2></header>
          <Asked payload={task.suspendPayload} />
          {canAct() && task.record === undefined && <ResumeForm id={task.id} payload={task.suspendPayload} onDone={take} />}
        </section>
      )}
      <div class="columns">
        <div class="column">
          <StoryPanel story={story} task={task} version={story.version} />
          {task.error && <ErrorPanel error={task.error} />}
          {task.result !== undefined && <JsonPanel title="Result" value={task.result} />}
          <JsonPanel title="Arguments" value={task.args} />
          {task.metadata && <JsonPanel title="Metadata" value={task.metadata} />}
        </div>
        <OutputPanel story={story} />
      </div>
    </main>
  );
}

function Origin({ task }: { task: TaskRecord }) {
  return (
    <dl class="origin">
      <Field name="Task" value={task.id}><span class="mono">{task.id}</span> <Copy text={() => task.id} what="the id" /></Field>
      <Field name="Agent" value={task.agentId}><Link to={href('/', { agentId: task.agentId })}>{task.agentId}</Link></Field>
      <Field name="Run" value={task.runId}><Link to={href('/run', { id: task.runId })}>{task.runId}</Link></Field>
      <Field name="Thread" value={task.threadId}><Link to={href('/', { threadId: task.threadId })}>{task.threadId}</Link></Field>
      <Field name="Resource" value={task.resourceId}><Link to={href('/', { resourceId: task.resourceId })}>{task.resourceId}</Link></Field>
      <Field name="Subagent" value={task.subagentType}>{task.subagentType}</Field>
      <Field name="Tool call" value={task.toolCallId}><span class="mono">{task.toolCallId}</span></Field>
      <Field name="Worker" value={task.workerId}><span class="mono">{task.workerId}</span></Field>
      <Field name="Attempt" value={task.attempt || undefined}>{task.attempt}</Field>
      <Field name="Retries" value={task.maxRetries || undefined}>{task.retryCount} of {task.maxRetries}</Field>
      <Field name="Timeout" value={task.record === undefined ? task.timeoutMs : undefined}>{durationText(task.timeoutMs)}</Field>
      <Field name="Priority" value={task.priority || undefined}>{task.priority}</Field>
      <Field name="Kept for" value={task.record === undefined ? undefined : 'its owner'}>its owner elsewhere, who alone changes it</Field>
    </dl>
  );
}

function Field({ name, value, children }: { name: string; value: string | number | undefined; children: preact.ComponentChildren }) {
  if (value === undefined) return null;
  return <div title={String(value).slice(0, 500)}><dt>{name}</dt><dd>{children}</dd></div>;
}

/** Drawn anew with each `version`: the story itself stays the same object. */
function StoryPanel({ story, task }: { story: Story; task: TaskRecord; version: number }) {
  second.value;
  const now = story.now();
  const times = {
    ...task, createdAt: msOf(task.createdAt), startedAt: msOf(task.startedAt),
    suspendedAt: msOf(task.suspendedAt), endedAt: msOf(task.completedAt),
  };
  const end = times.endedAt || now;
  const isTimed = story.events.length > 0 && story.events.every((event) => event.at !== 0);
  const stretches = isTimed ? stretchesOf(story.events, end) : stretchesOfTimes(times, now);
  const whole = end - times.createdAt;
  const text = hasEnded(task.status) ? `${durationText(whole)} in all` : `for ${runningText(whole)}`;
  return (
    <section class="panel" aria-label="Story">
      <header>
        <h2>Story</h2>
        <span class="faint"><Time ms={times.createdAt} /> · {text}</span>
      </header>
      <Bars stretches={stretches} from={times.createdAt} to={end} label={stretches.map((it) => `${it.kind} ${durationText(it.to - it.from)}`).join(', ')} />
      {story.isCut && <p class="note">The log no longer has the beginning of this story.</p>}
      <Timeline events={story.events} outputs={story.outputs} />
    </section>
  );
}

function ErrorPanel({ error }: { error: { message: string; stack?: string } }) {
  return (
    <section class="panel error" aria-label="Error">
      <header>
        <h2>Error</h2>
        <Copy text={() => [error.message, error.stack].filter(Boolean).join('\n')} what="the error" />
      </header>
      <p class="message">{error.message}</p>
      {error.stack !== undefined && (
        <details><summary>Stack</summary><pre tabIndex={0}>{error.stack}</pre></details>
      )}
    </section>
  );
}
