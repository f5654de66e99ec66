"""The tools of parts.rs, for examples/worker.py, whose folder is the first argument; the second is the lease, in
seconds."""
import sys

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import worker


def work(attempt, args):
    for n in range(args["outputs"]):
        attempt.outputs.append(n)
        attempt.sleep(args["pause_ms"] / 1000)
    if attempt.task["attempt"] <= args["failures"]:
        raise RuntimeError("not yet")
    return args["outputs"]


def ask(attempt, args):
    if "resumeData" not in attempt.task:
        raise worker.Suspend("which?")
    return attempt.task["resumeData"]


worker.TOOLS = {"work": work, "ask": ask}
worker.LEASE = float(sys.argv[2])
print("ready: starts", flush=True)
worker.work()
