#!/usr/bin/env python3
"""A Sidestream worker in one file, for the server of SIDESTREAM_URL, with SIDESTREAM_API_KEY: docs/protocol.md,
"Workers". Its tools are `remote = true` there. Others: `import worker; worker.TOOLS = {…}; worker.work()`."""
import http.client, json, os, secrets, signal, threading, time, traceback, urllib.error, urllib.parse, urllib.request

SERVER = os.environ.get("SIDESTREAM_URL", "http://127.0.0.1:7600")
KEY = os.environ.get("SIDESTREAM_API_KEY")
HEADERS = {"content-type": "application/json", **({"authorization": f"Bearer {KEY}"} if KEY else {})}
WORKER = f"python-{secrets.token_hex(8)}"  # a name that no other process has
SLOTS, LEASE, GRACE = 4, 15.0, 5.0  # tasks at once; seconds
GONE = (OSError, http.client.HTTPException)  # the server, for now, or in the middle of its answer
running, leaving, freed = set(), threading.Event(), threading.Event()

class Stopped(Exception): pass  # in a tool whose attempt should stop
class Suspend(Exception): pass  # raised by a tool that waits for somebody: its argument says for what

def count(attempt, args):
    for n in range(1, args["to"] + 1):
        attempt.outputs.append(n)
        attempt.sleep(args.get("pauseMs", 0) / 1000)
    return {"counted": args["to"]}

def approve(attempt, args):
    if "resumeData" not in attempt.task:
        raise Suspend({"question": args["question"]})
    return {"answer": attempt.task["resumeData"]}

TOOLS = {"count": count, "approve": approve, "sleep": lambda attempt, args: attempt.sleep(args["seconds"])}

def ask(path, body=None, timeout=45.0):
    body = body and json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(f"{SERVER}/v1/{path}", body, HEADERS), timeout=timeout)

class Attempt:
    def __init__(self, task, since):
        self.task, self.outputs, self.reports, self.why = task, [], 0, None
        self.stop, self.over, self.turn = threading.Event(), threading.Event(), threading.Lock()
        self.deadline = time.monotonic() + task["timeoutMs"] / 1000
        self.until, self.renew_at = since + LEASE, 0  # at once: it may have been cancelled meanwhile

    def end(self, why):
        self.why = self.why or why
        self.stop.set()

    def sleep(self, seconds):
        if self.stop.wait(seconds):
            raise Stopped

    def post(self, route, **body):
        path = f"task/{route}?id={urllib.parse.quote(self.task['id'], safe='')}"
        try:
            ask(path, {"attempt": self.task["attempt"], **body}, LEASE / 6).close()
        except urllib.error.HTTPError as error:
            if error.code < 500:  # 409: the attempt no longer holds the task
                print(f"{self.task['id']}: {route} refused: {error.read().decode()}", flush=True)
                self.end("lost")
            raise

    def say(self, route, **body):  # a report, repeated with its number until it is heard or the lease is over
        self.reports += 1
        while self.why != "lost" and time.monotonic() < self.until:
            try:
                return self.post(route, report=self.reports, **body)
            except GONE:
                time.sleep(0.2)

    def flush(self):
        with self.turn:  # one report after the other
            while batch := self.outputs[:100]:
                del self.outputs[:100]
                self.say("output", outputs=batch)

    def keep(self):  # sends what gathers, and keeps the lease and the time
        while not self.over.wait(0.05):
            self.flush()
            now = time.monotonic()
            if now > self.deadline:
                self.end("late")
            if now > self.until - LEASE / 6:  # to have stopped before another has the task
                self.end("lost")
            if now > self.renew_at and self.why != "lost":
                self.renew_at = now + LEASE / 15  # soon again, if it fails
                try:
                    self.post("renew", leaseMs=int(LEASE * 1000))
                    self.until, self.renew_at = now + LEASE, now + LEASE / 3
                except GONE:
                    pass

    def run(self):
        keeper = threading.Thread(target=self.keep)
        keeper.start()
        try:
            end = ("complete", {"result": TOOLS[self.task["toolName"]](self, self.task["args"])})
        except Suspend as asks:
            end = ("suspend", {"suspendPayload": asks.args[0]})
        except Exception as error:
            end = ("fail", {"error": {"message": str(error), "stack": traceback.format_exc()}})
        if self.why:  # if it was lost, nothing more is said
            gone = {"error": {"message": f"worker {WORKER} was shut down"}}
            end = ("fail", {"timedOut": True} if self.why == "late" else gone)
        self.flush()
        self.over.set()
        keeper.join()
        self.say(end[0], **end[1])
        running.discard(self)
        freed.set()

def follow():  # hears what is cancelled; what was missed while there was no stream, every attempt asks for
    while True:
        try:
            with ask("stream?type=cancelled&snapshot=none") as lines:
                for attempt in list(running):
                    attempt.renew_at = 0
                for line in lines:
                    told = json.loads(line[5:])["payload"].get("taskId") if line.startswith(b"data:") else None
                    for attempt in [attempt for attempt in list(running) if attempt.task["id"] == told]:
                        attempt.end("lost")
        except GONE:
            time.sleep(0.5)

def claim(limit, wait_ms=10_000):
    asked = {"worker": WORKER, "tools": list(TOOLS), "limit": limit, "waitMs": wait_ms, "leaseMs": int(LEASE * 1000)}
    sent = time.monotonic()
    with ask("claims", asked, wait_ms / 1000 + 10) as answer:
        answer = json.load(answer)
    for task in answer["tasks"]:
        running.add(attempt := Attempt(task, sent + answer["waitedMs"] / 1000))
        threading.Thread(target=attempt.run).start()

def leave(*_):
    leaving.set()
    freed.set()
    # The claim that waits is answered at once; if it had not come yet, it is a moment later.
    threading.Thread(target=lambda: [claim(0) or time.sleep(0.05) for _ in range(99)], daemon=True).start()

def work():
    for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, leave)
    threading.Thread(target=follow, daemon=True).start()
    print(f"{WORKER} works for {SERVER}", flush=True)
    while not leaving.is_set():
        try:
            freed.clear()
            claim(SLOTS - len(running)) if len(running) < SLOTS else freed.wait()
        except GONE as error:
            print(f"no tasks: {error}", flush=True)
            time.sleep(0.5)
    late = lambda: time.sleep(GRACE) or [attempt.end("we leave") for attempt in list(running)]
    threading.Thread(target=late, daemon=True).start()

if __name__ == "__main__": work()
