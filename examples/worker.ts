// A Sidestream worker in one file: docs/protocol.md, "Workers", and Node 22 alone, which runs it as it is.
// SIDESTREAM_URL and SIDESTREAM_API_KEY say for whom. The server leaves the tools to it by `remote = true`.
import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

type Task = { id: string; toolName: string; attempt: number; timeoutMs: number; args: any; resumeData?: any };

const SERVER = process.env.SIDESTREAM_URL ?? 'http://127.0.0.1:7600';
const KEY = process.env.SIDESTREAM_API_KEY;
const HEADERS = { 'content-type': 'application/json', ...(KEY && { authorization: `Bearer ${KEY}` }) };
const WORKER = `typescript-${randomBytes(8).toString('hex')}`; // a name that no other process has
const [SLOTS, LEASE_MS, GRACE_MS] = [4, 15_000, 5_000];
const running = new Set<Attempt>();

const TOOLS: Record<string, (attempt: Attempt, args: any) => Promise<any>> = {
  async count(attempt, { to, pauseMs = 0 }) {
    for (let n = 1; n <= to; n += 1) {
      attempt.outputs.push(n);
      await attempt.sleep(pauseMs);
    }
    return { counted: to };
  },
  async approve(attempt, { question }) {
    if (attempt.task.resumeData === undefined) throw { suspend: { question } }; // it waits for somebody
    return { answer: attempt.task.resumeData };
  },
  sleep: (attempt, { seconds }) => attempt.sleep(seconds * 1000),
};

function post(path: string, body: any, ms: number): Promise<Response> {
  const request = { method: 'POST', body: JSON.stringify(body), headers: HEADERS, signal: AbortSignal.timeout(ms) };
  return fetch(`${SERVER}/v1/${path}`, request);
}

class Attempt {
  task: Task;
  outputs: any[] = [];
  reports = 0;
  until: number; // when the lease ends
  renewAt = 0; // at once: it may have been cancelled meanwhile
  stop = new AbortController();
  sleep = (ms: number): Promise<void> => pause(ms, undefined, { signal: this.stop.signal });
  why?: 'lost' | 'late' | 'we leave';
  isOver = false;
  done: Promise<void>;

  constructor(task: Task, since: number) {
    this.task = task;
    this.until = since + LEASE_MS;
    this.done = this.run();
  }

  end(why: Attempt['why']) {
    this.why ??= why;
    this.stop.abort();
  }

  async post(route: string, body: any): Promise<boolean> {
    try {
      const path = `task/${route}?id=${encodeURIComponent(this.task.id)}`;
      const answer = await post(path, { attempt: this.task.attempt, ...body }, LEASE_MS / 6);
      const text = await answer.text();
      if (answer.ok || answer.status >= 500) return answer.ok;
      console.log(`${this.task.id}: ${route} refused: ${text}`); // 409: it no longer holds the task
      this.end('lost');
    } catch {}
    return false;
  }

  async say(route: string, body: any) { // repeated with its number until it is heard or the lease is over
    const report = (this.reports += 1);
    while (this.why !== 'lost' && performance.now() < this.until) {
      if (await this.post(route, { report, ...body })) return;
      await pause(200);
    }
  }

  async keep() { // sends what gathers, one report after the other, and keeps the lease and the time
    const deadline = performance.now() + this.task.timeoutMs;
    for (; !this.isOver || this.outputs.length; await pause(50)) {
      const now = performance.now();
      if (now > deadline) this.end('late');
      if (now > this.until - LEASE_MS / 6) this.end('lost'); // to have stopped before another has the task
      if (this.why === 'lost') return;
      if (now > this.renewAt) {
        this.renewAt = now + 1_000; // soon again, if it fails
        const isRenewed = await this.post('renew', { leaseMs: LEASE_MS });
        if (isRenewed) [this.until, this.renewAt] = [now + LEASE_MS, now + LEASE_MS / 3];
      }
      if (this.outputs.length) await this.say('output', { outputs: this.outputs.splice(0, 100) });
    }
  }

  async run() {
    const keeping = this.keep();
    let end: [string, any] = await TOOLS[this.task.toolName](this, this.task.args).then(
      (result) => ['complete', { result }],
      ({ suspend, message, stack }) =>
        suspend ? ['suspend', { suspendPayload: suspend }] : ['fail', { error: { message, stack } }],
    );
    if (this.why === 'late') end = ['fail', { timedOut: true }];
    if (this.why === 'we leave') end = ['fail', { error: { message: `worker ${WORKER} was shut down` } }];
    this.isOver = true;
    await keeping;
    await this.say(...end); // if it is lost, nothing more is said
    running.delete(this);
  }
}

async function follow() { // hears what is cancelled; after a gap every attempt asks
  for (;; await pause(500)) {
    try {
      const stream = await fetch(`${SERVER}/v1/stream?type=cancelled&snapshot=none`, { headers: HEADERS });
      for (const attempt of running) attempt.renewAt = 0;
      let text = '';
      for await (const piece of stream.body!.pipeThrough(new TextDecoderStream())) {
        const lines = (text + piece).split('\n');
        text = lines.pop()!;
        const chunks = lines.filter((line) => line.startsWith('data:')).map((line) => JSON.parse(line.slice(5)));
        const ids = chunks.map((chunk) => chunk.payload.taskId);
        for (const attempt of running) if (ids.includes(attempt.task.id)) attempt.end('lost');
      }
    } catch {}
  }
}

async function claim(limit: number, waitMs = 10_000) {
  const sent = performance.now();
  const asked = { worker: WORKER, tools: Object.keys(TOOLS), limit, waitMs, leaseMs: LEASE_MS };
  const answer = await post('claims', asked, waitMs + 10_000);
  if (!answer.ok) throw new Error(await answer.text());
  const { tasks, waitedMs } = await answer.json();
  for (const task of tasks) running.add(new Attempt(task, sent + waitedMs));
}

let isLeaving = false;
const told = new Promise((resolve) => ['SIGTERM', 'SIGINT'].forEach((name) => process.on(name, resolve)));
told.then(async () => { // the claim that waits is answered at once; if it had not come yet, a moment later
  for (isLeaving = true; ; await pause(50)) await claim(0).catch(() => {});
});
follow();
console.log(`${WORKER} works for ${SERVER}`);
while (!isLeaving) {
  if (running.size === SLOTS) await Promise.race([told, ...[...running].map((attempt) => attempt.done)]);
  else await claim(SLOTS - running.size).catch((error) => pause(500, console.log(`no tasks: ${error}`)));
}
setTimeout(() => running.forEach((attempt) => attempt.end('we leave')), GRACE_MS);
await Promise.all([...running].map((attempt) => attempt.done));
process.exit();
