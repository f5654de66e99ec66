//! What comes out: lines, limits, backpressure, the result.

use sidestream_core::task::PAYLOAD_BYTES_MAX;
use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn each_line_is_an_output() {
    let script = r#"printf '{"step": 1}\nplain text\r\n42\n\n\377ok\nlast'"#;
    let (result, outputs) = ended(&shell(script), "{}").await;
    let expected = [
        r#"{"step": 1}"#,
        r#""plain text""#,
        "42",
        r#""""#,
        "\"\u{fffd}ok\"",
        r#""last""#,
    ];
    assert_eq!(outputs, expected);
    let text = "{\"step\": 1}\nplain text\n42\n\n\u{fffd}ok\nlast";
    assert_eq!(result, Ok(Some(Json::string(text))));
}

#[tokio::test]
async fn stderr_is_output_marked_so_and_no_result() {
    let script = r#"echo 'a "b"' >&2; printf '{"x": 1}' >&2"#;
    let (result, outputs) = ended(&shell(script), "{}").await;
    let expected = [
        r#"{"stream":"stderr","text":"a \"b\""}"#,
        r#"{"stream":"stderr","text":"{\"x\": 1}"}"#,
    ];
    assert_eq!(outputs, expected);
    assert_eq!(result, Ok(None));
}

#[tokio::test]
async fn the_result_is_the_last_line_if_json_else_the_text_else_none() {
    let result = async |script| ended(&shell(script), "{}").await.0.expect("it succeeds");
    let json = |text: &str| Some(Json::from_text(text).expect("JSON"));
    assert_eq!(
        result("echo one; echo '{\"a\": 1}'").await,
        json(r#"{"a": 1}"#)
    );
    assert_eq!(
        result("echo '{\"a\": 1}'; echo two").await,
        json(r#""{\"a\": 1}\ntwo""#)
    );
    assert_eq!(result("true").await, None);
}

#[tokio::test]
async fn an_output_comes_while_the_program_runs() {
    let kept = Kept::default();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("go");
    named_pipe(&path);
    let script = format!(
        "echo first; read -r line < '{}'; echo $line",
        path.display()
    );
    let program = shell(&script);
    let answering = async {
        kept.arrived.notified().await;
        assert_eq!(kept.texts(), [r#""first""#]);
        answer(&path, "second\n");
    };
    let (invocation, never) = (invocation("{}"), CancellationToken::new());
    let running = run(&program, &invocation, &kept, &never);
    let (result, ()) = within_bound(async { tokio::join!(running, answering) }).await;
    assert_eq!(result, Ok(Some(Json::string("first\nsecond"))));
}

#[tokio::test]
async fn a_long_line_is_cut_and_its_json_result_is_not() {
    let mut program = python("print('[\"' + 'x' * 100_000 + '\"]')");
    program.line_bytes_max = 1000;
    let (result, outputs) = ended(&program, "{}").await;
    let [output] = &outputs[..] else {
        panic!("one output, not {}", outputs.len());
    };
    assert!(output.ends_with("xxx…[99004 bytes cut]\""), "{output}");
    let bytes = result.expect("it succeeds").map(|it| it.bytes());
    assert_eq!(bytes, Some(100_004));
}

/// S8: as JSON a text is longer than it is; what an output cannot hold is cut, and not the whole line.
#[tokio::test]
async fn a_line_that_becomes_too_long_as_json_is_cut() {
    let script = "import sys
print('x' * 1_048_576)
print('\"' * 900_000, flush=True)
sys.stdout.buffer.write(b'\\xff' * 900_000 + b'\\n')
print('x' * 1_048_576, file=sys.stderr)
print(1)";
    let (result, outputs) = ended(&python(script), "{}").await;
    assert_eq!(result, Ok(Some(Json::from_value(&1).expect("a number"))));
    assert_eq!(outputs.len(), 5);
    let long = outputs.iter().filter(|output| *output != "1");
    for output in long {
        let bytes = output.len();
        assert!(bytes <= PAYLOAD_BYTES_MAX, "{bytes}");
        assert!(bytes > PAYLOAD_BYTES_MAX - 100, "{bytes}");
        let end = output.trim_end_matches(['"', '}']);
        assert!(end.ends_with(" bytes cut]"), "{}", &end[end.len() - 40..]);
    }
}

#[tokio::test]
async fn over_the_output_limit_it_is_stopped_and_told_both_numbers() {
    let mut program = shell("while :; do echo 12345; echo 6789012 >&2; done");
    program.output_bytes_max = 1_000_000;
    let (result, outputs) = ended(&program, "{}").await;
    let failure = result.expect_err("it is stopped");
    let Cause::OutputLimit { written_bytes, .. } = failure.cause else {
        panic!("{failure}");
    };
    assert!(written_bytes > 1_000_000);
    assert!(failure.message.contains("it wrote 1,0"), "{failure}");
    assert!(
        failure.message.contains("more than the 1,000,000 allowed"),
        "{failure}"
    );
    // What was within the limit has been passed on.
    let stdout = outputs.iter().filter(|it| *it == "12345").count() * 6;
    let stderr = outputs.iter().filter(|it| it.contains("6789012")).count() * 8;
    let passed_on = stdout + stderr;
    assert!((999_980..=1_000_000).contains(&passed_on), "{passed_on}");
}

#[tokio::test]
async fn output_of_exactly_the_limit_is_allowed() {
    let mut program = shell("echo 1234; echo 123 >&2");
    program.output_bytes_max = 9;
    assert_eq!(ended(&program, "{}").await.1.len(), 2);
    program.output_bytes_max = 8;
    let failure = failure_of(&program, "{}").await;
    assert!(
        matches!(failure.cause, Cause::OutputLimit { .. }),
        "{failure}"
    );
}

/// Writes as fast as it can; when its pipe has been full for a while, it says so and waits.
const BLOCKED: &str = "
import os, select, sys
witness = open(sys.argv[1], 'w', buffering=1)
os.set_blocking(1, False)
line, written, told = b'x' * 8191 + b'\\n', 0, False
while written < 5 * 1024 * 1024:
    try:
        written += os.write(1, line[written % 8192:])
    except BlockingIOError:
        if not select.select([], [1], [], 0.5)[1]:
            if not told:
                print('blocked at', written, file=witness)
                told = True
            select.select([], [1], [])
print('written', written, file=witness)
";

/// Takes as many outputs as there are permits.
struct Gate {
    permits: Semaphore,
    taken_bytes: Mutex<usize>,
}

impl Sink for Gate {
    async fn output(&self, output: Json) -> Result<(), Closed> {
        self.permits.acquire().await.map_err(|_| Closed)?.forget();
        *self.taken_bytes.lock() += output.bytes();
        Ok(())
    }
}

#[tokio::test]
async fn a_slow_sink_slows_the_program_and_not_our_memory() {
    let mut witness = Witness::new();
    let path = witness.path.display().to_string();
    let program = Program::new("python3", ["-c", BLOCKED, &path]);
    let gate = Gate {
        permits: Semaphore::new(10),
        taken_bytes: Mutex::default(),
    };
    let opening = async {
        let said = witness.line().await;
        let at = said.strip_prefix("blocked at ").map(str::parse::<usize>);
        let Some(Ok(at)) = at else {
            panic!("it could write everything: {said}");
        };
        // Ten lines have been taken; the pipe holds 64 KiB, we a buffer and a line.
        assert!(at <= 10 * 8192 + 65536 + 16384 + 8192, "{at} bytes");
        gate.permits.add_permits(10_000);
        witness.end().await
    };
    let (invocation, never) = (invocation("{}"), CancellationToken::new());
    let running = run(&program, &invocation, &gate, &never);
    let (result, said) = within_bound(async { tokio::join!(running, opening) }).await;
    assert_eq!(said, ["written 5242880"]);
    assert_eq!(*gate.taken_bytes.lock(), 640 * 8193);
    let result = result.expect("it succeeds").expect("text");
    assert!((PAYLOAD_BYTES_MAX - 100..=PAYLOAD_BYTES_MAX).contains(&result.bytes()));
}

#[tokio::test]
async fn ten_mebibytes_of_arguments_go_in_while_output_comes_out() {
    let args = format!("\"{}\"", "x".repeat(10 << 20));
    let script = "import sys
for _ in range(200): print('y' * 9999, flush=True)
print(len(sys.stdin.read()))";
    let length = result_of(&python(script), &args).await;
    assert_eq!(length, (args.len() + 1).to_string());
}

#[tokio::test]
async fn a_program_need_not_read_its_arguments() {
    let args = format!("\"{}\"", "x".repeat(10 << 20));
    assert_eq!(result_of(&shell("echo 1"), &args).await, "1");
    assert_eq!(result_of(&shell("exec <&-; echo 2"), &args).await, "2");
    // A child holds stdin open and does not read it either.
    let holding = shell("exec 4<&0; sleep 30 <&4 >/dev/null 2>&1 & echo 3");
    assert_eq!(result_of(&holding, &args).await, "3");
}

/// Closes after the first output.
struct Once(Mutex<usize>);

impl Sink for Once {
    async fn output(&self, _: Json) -> Result<(), Closed> {
        let mut seen = self.0.lock();
        *seen += 1;
        if *seen > 1 { Err(Closed) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_closed_sink_stops_the_program() {
    let mut witness = Witness::new();
    let program = witness.shell("echo one; echo two; exec sleep 60");
    let (invocation, never) = (invocation("{}"), CancellationToken::new());
    let once = Once(Mutex::new(0));
    let result = within_bound(run(&program, &invocation, &once, &never)).await;
    let failure = result.expect_err("it is stopped");
    assert_eq!(failure.cause, Cause::SinkClosed);
    assert_eq!(*once.0.lock(), 2);
    assert!(witness.end().await.is_empty());
}
