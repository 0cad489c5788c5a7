//! `shell` and `exec`: real processes through the public face.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::{sync::Arc, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{Cancel, CancelReason, Discard, ExecContext, ExecOutcome, Progress, Stream};
use ostler_executors::{LogQuery, RunLogs};
use serde_json::json;
use support::{Bench, SECRET, eventually, request};

#[tokio::test]
async fn a_script_writes_outputs_in_every_form() {
    let bench = Bench::new();
    let mut call = request(
        "shell",
        Some(
            "echo n=3 >> $OSTLER_OUTPUT; printf 'text<<E\\na\\nb\\nE\\n' >> $OSTLER_OUTPUT; echo '::ostler output k=v'",
        ),
        json!({}),
    );
    call.output_schema =
        Some(json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}));
    assert_eq!(bench.output(call).await, json!({"n": 3, "text": "a\nb", "k": "v"}));
    let call = request("shell", Some("echo '{\"list\": [1, \"ä\"]}' > $OSTLER_OUTPUT"), json!({}));
    assert_eq!(bench.output(call).await, json!({"list": [1, "ä"]}));
}

#[tokio::test]
async fn outputs_are_checked() {
    let bench = Bench::new();
    let mut call = request("shell", Some("echo n=three > $OSTLER_OUTPUT"), json!({}));
    call.output_schema = Some(json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
    let error = bench.error(call).await;
    assert_eq!(error.class.0, "output");
    assert!(error.message.contains("/n") && error.message.contains("three"), "{error}");
    let error = bench.error(request("shell", Some("echo oops > $OSTLER_OUTPUT"), json!({}))).await;
    assert!(error.message.contains("line 1: `oops`"), "{error}");
}

#[tokio::test]
async fn the_environment_is_small_and_tells_what_ostler_knows() {
    let bench = Bench::new();
    bench.write(".env", "FROM_FILE=file\nBOTH=file\n");
    let mut call = request("shell", Some("env | sort"), json!({"capture": "lines"}));
    call.env = [("BOTH".to_owned(), "env".to_owned())].into();
    call.env_file = vec![".env".into()];
    call.inputs = json!({"station-id": "EDDB", "n": 3, "deep": {"a": 1}});
    call.traceparent = Some("00-1-2-01".into());
    let output = bench.output(call).await;
    let lines: Vec<&str> = output["stdout"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    for expected in [
        "FROM_FILE=file",
        "BOTH=env",
        "INPUT_STATION_ID=EDDB",
        "INPUT_N=3",
        "OSTLER_INPUTS={\"station-id\":\"EDDB\",\"n\":3,\"deep\":{\"a\":1}}",
        "OSTLER_ATTEMPT=2",
        "OSTLER_FENCE=3",
        "OSTLER_IDEMPOTENCY_KEY=run/step/0",
        "OSTLER_TASK=pull",
        "OSTLER_STEP=fetch",
        "OSTLER_NAMESPACE=demo",
        "TRACEPARENT=00-1-2-01",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in {lines:#?}");
    }
    assert!(lines.iter().any(|l| l.starts_with("OSTLER_RUN_ID=01a3185c-")), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.starts_with("CARGO") || l.starts_with("NEXTEST")), "{lines:#?}");
}

#[tokio::test]
async fn failures_carry_class_code_and_the_last_lines() {
    let bench = Bench::new();
    let script = "i=0; while [ $i -lt 30 ]; do echo \"line $i\" >&2; i=$((i+1)); done; exit 75";
    let error = bench.error(request("shell", Some(script), json!({}))).await;
    assert_eq!((error.class.0.as_str(), error.exit_code), ("exit:75", Some(75)));
    assert_eq!(error.message, "the command ended with exit code 75: line 29");
    assert_eq!(error.detail.unwrap().lines().next().unwrap(), "line 10");
    let error = bench.error(request("shell", Some("kill -SEGV $$"), json!({}))).await;
    assert_eq!(error.class.0, "signal:SEGV");
    // `-e` is on: the first failing command ends the script.
    let error = bench.error(request("shell", Some("false\necho no"), json!({}))).await;
    assert_eq!(error.class.0, "exit:1");
}

#[tokio::test]
async fn exit_codes_mean_what_the_step_says() {
    let bench = Bench::new();
    let with = json!({"exit_codes": {"success": [0, 3], "skip": [99], "errors": {"75": "busy"}}});
    let run = |script: &'static str| request("shell", Some(script), with.clone());
    let (end, _) = bench.run(run("exit 3")).await;
    assert_eq!((end.outcome, end.exit_code), (ExecOutcome::Succeeded, Some(3)));
    assert_eq!(bench.output(run("exit 99")).await, json!({"skipped": true}));
    assert_eq!(bench.error(run("exit 75")).await.class.0, "busy");
    assert_eq!(bench.error(run("exit 4")).await.class.0, "exit:4");
}

#[tokio::test]
async fn captured_text_json_and_lines() {
    let bench = Bench::new();
    let run =
        |script: &'static str, capture: &str| request("shell", Some(script), json!({"capture": capture}));
    assert_eq!(bench.output(run("echo a; echo b", "text")).await, json!({"stdout": "a\nb"}));
    assert_eq!(bench.output(run("echo a; echo b", "lines")).await, json!({"stdout": ["a", "b"]}));
    assert_eq!(bench.output(run("echo '{\"a\": [1]}'", "json")).await, json!({"stdout": {"a": [1]}}));
    assert_eq!(bench.error(run("echo nope", "json")).await.class.0, "output");
    let error = bench.error(run("head -c 3000000 /dev/zero | tr '\\0' x", "text")).await;
    assert!(error.class.0 == "output" && error.message.contains("1048576"), "{error}");
}

#[tokio::test]
async fn stdin_folder_args_umask_and_limits() {
    let bench = Bench::new();
    let mut call = request(
        "shell",
        Some("cat; pwd; umask; ulimit -n; echo \"$0 $1 $2\""),
        json!({
            "capture": "lines", "umask": "027", "limits": {"files": 60},
        }),
    );
    call.stdin = Some("ein\ngröße\n".into());
    call.working_directory = Some("/usr".into());
    call.args = vec![json!("a b"), json!(3)];
    assert_eq!(
        bench.output(call).await["stdout"],
        json!(["ein", "größe", "/usr", "0027", "60", "fetch a b 3"])
    );
    let mut call = request("shell", Some("pwd"), json!({}));
    call.working_directory = Some("/no/such/folder".into());
    assert!(bench.error(call).await.message.contains("/no/such/folder"));
}

#[tokio::test]
async fn memory_and_file_limits_bind() {
    let bench = Bench::new();
    let call =
        request("shell", Some("head -c 100000 /dev/zero > big"), json!({"limits": {"file_size": "10k"}}));
    assert!(bench.error(call).await.class.0 != "spawn");
    assert!(std::fs::metadata(bench.path().join("big")).unwrap().len() <= 10 * 1024);
    let call = request(
        "shell",
        Some("exec python3 -c 'x = \"x\" * 500_000_000'"),
        json!({"limits": {"memory": "200M"}}),
    );
    assert!(bench.error(call).await.detail.unwrap().contains("MemoryError"));
}

#[tokio::test]
async fn exec_passes_arguments_as_they_are() {
    let bench = Bench::new();
    let mut call = request("exec", None, json!({"capture": "lines", "argv": ["printf", "%s\\n"]}));
    call.args = vec![json!("a b"), json!("$HOME; *"), json!(1.5), json!(true)];
    assert_eq!(bench.output(call).await["stdout"], json!(["a b", "$HOME; *", "1.5", "true"]));
    let error = bench.error(request("exec", None, json!({"argv": ["no-such-program"]}))).await;
    assert_eq!(error.class.0, "spawn");
    assert!(error.message.contains("`no-such-program` was not found in PATH"), "{error}");
    let error = bench.error(request("shell", Some("x"), json!({"shell": "fish"}))).await;
    assert!(error.message.contains("apt install fish"), "{error}");
    bench.write("plain.sh", "echo hi");
    let error = bench.error(request("exec", None, json!({"argv": ["./plain.sh"]}))).await;
    assert!(error.message.contains("chmod +x"), "{error}");
}

#[tokio::test]
async fn other_shells_and_long_scripts() {
    let bench = Bench::new();
    let call = request(
        "shell",
        Some("[[ a == a ]] && echo $BASH_VERSION | cut -c1"),
        json!({"shell": "bash", "capture": "text"}),
    );
    assert!(bench.output(call).await["stdout"].as_str().unwrap() >= "3");
    let call = request("shell", Some("print(6 * 7)"), json!({"shell": ["python3", "-c"], "capture": "text"}));
    assert_eq!(bench.output(call).await["stdout"], "42");
    let long = format!("# {}\necho long", "x".repeat(200_000));
    assert_eq!(
        bench.output(request("shell", Some(&long), json!({"capture": "text"}))).await["stdout"],
        "long"
    );
}

#[tokio::test]
async fn long_inputs_come_by_a_file() {
    let bench = Bench::new();
    let mut call = request(
        "shell",
        Some("wc -c < $OSTLER_INPUTS_FILE; echo ${OSTLER_INPUTS-none}"),
        json!({"capture": "lines"}),
    );
    call.inputs = json!({"big": "x".repeat(200_000)});
    assert_eq!(bench.output(call).await["stdout"], json!(["200010", "none"]));
}

#[tokio::test]
async fn progress_and_masks_by_lines() {
    let bench = Bench::new();
    let script = "echo '::ostler progress 3/10 half way'; echo '::ostler mask hunter2'; echo 'a hunter2 b'; echo x=hunter2 > $OSTLER_OUTPUT";
    let (end, record) = bench.run(request("shell", Some(script), json!({}))).await;
    assert_eq!(record.stdout(), ["a *** b"]);
    assert_eq!(
        record.progress(),
        [Progress { done: Some(3), total: Some(10), message: Some("half way".into()) }]
    );
    assert_eq!(end.output, json!({"x": "***"}));
}

#[tokio::test]
async fn secrets_reach_the_child_and_nothing_else() {
    let bench = Bench::new();
    let mut call = request(
        "shell",
        Some("[ \"$T\" = 's3cr3t/of the=test' ] || exit 9; echo \"$T\"; echo \"$T\" >&2; exit 1"),
        json!({}),
    );
    call.env = [("T".to_owned(), "\u{0}secret:TOKEN\u{0}".to_owned())].into();
    let (end, record) = bench.run(call).await;
    assert_eq!(end.exit_code, Some(1));
    let shown = format!("{end:?} {}", record.all());
    assert!(!shown.contains(SECRET) && shown.contains("***"), "{shown}");
    let mut call = request("shell", Some("true"), json!({}));
    call.env = [("T".to_owned(), "\u{0}secret:OTHER\u{0}".to_owned())].into();
    assert!(bench.error(call).await.message.contains("OSTLER_SECRET_OTHER"));
}

#[tokio::test]
async fn the_scratch_folder_goes_with_the_attempt() {
    let bench = Bench::new();
    let call = request(
        "shell",
        Some("echo x > $OSTLER_SCRATCH/f; echo $OSTLER_SCRATCH"),
        json!({"capture": "text"}),
    );
    let output = bench.output(call).await;
    let path = output["stdout"].as_str().unwrap();
    assert!(path.starts_with(bench.path().to_str().unwrap()) && !std::path::Path::new(path).exists());
    assert_eq!(std::fs::read_dir(bench.path().join("scratch")).unwrap().count(), 0);
}

#[tokio::test]
async fn only_an_untouched_scratch_folder_serves_another_attempt() {
    let bench = Bench::new();
    let folder = async |script: &str| {
        let script = format!("echo $OSTLER_SCRATCH; {script}");
        let call = request("shell", Some(&script), json!({"capture": "text"}));
        bench.output(call).await["stdout"].as_str().unwrap().to_owned()
    };
    let first = folder("true").await;
    assert_eq!(folder("echo a=1 > $OSTLER_OUTPUT").await, first);
    let second = folder("mkdir $OSTLER_SCRATCH/.hidden").await;
    assert_ne!(second, first, "it held outputs");
    let third = folder("chmod 755 $OSTLER_SCRATCH").await;
    assert_ne!(third, second, "something was left in it");
    let fourth = folder("rm -r $OSTLER_SCRATCH; ln -s /tmp $OSTLER_SCRATCH").await;
    assert_ne!(fourth, third, "others may read it");
    let fifth = folder("true").await;
    assert_ne!(fifth, fourth, "it is something else now");
    assert_eq!(folder("true").await, fifth);
    let scratch = bench.path().join("scratch");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 1);
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_does_not_hold_the_step() {
    let bench = Bench::new();
    let started = SystemClock.elapsed();
    let (end, record) = bench
        .run(request(
            "shell",
            Some("sleep 100 & setsid sleep 100 & (setsid env -i sleep 100 &) ; echo done"),
            json!({}),
        ))
        .await;
    assert_eq!(end.outcome, ExecOutcome::Succeeded);
    assert_eq!(record.stdout(), ["done"]);
    assert!(SystemClock.elapsed() - started < Duration::from_secs(5));
}

#[tokio::test]
async fn cancel_is_polite_then_not() {
    let bench = Bench::new();
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.01 || :; done";
    let polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01 || :; done";
    for (script, last) in [(polite, "bye"), (deaf, "ready")] {
        let mut call = request("shell", Some(script), json!({}));
        call.grace = Duration::from_millis(if last == "bye" { 20_000 } else { 100 });
        let (cancel, record, running) = bench.start(call);
        assert!(eventually(|| !record.stdout().is_empty()).await);
        cancel.fire(CancelReason::Cancelled);
        let end = running.await.unwrap();
        assert_eq!(end.outcome, ExecOutcome::Interrupted);
        assert_eq!(record.stdout().last().unwrap(), last);
    }
    // The second Ctrl-C.
    let (cancel, record, running) = bench.start(request("shell", Some(deaf), json!({})));
    assert!(eventually(|| !record.stdout().is_empty()).await);
    cancel.fire(CancelReason::TimedOut);
    cancel.fire(CancelReason::Kill);
    assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
}

#[tokio::test]
async fn streams_are_told_apart_and_odd_bytes_pass() {
    let bench = Bench::new();
    let script = "printf 'no end'; printf 'err\\n' >&2; printf '\\377\\n' >&2";
    let (_, record) = bench.run(request("shell", Some(script), json!({}))).await;
    assert_eq!(record.stdout(), ["no end"]);
    assert_eq!(record.of(Stream::Stderr), ["err", "\u{fffd}"]);
}

#[tokio::test]
async fn settings_faults_say_what_is_wrong() {
    let bench = Bench::new();
    let fault = async |uses: &str, run: Option<&str>, with| bench.error(request(uses, run, with)).await;
    assert!(fault("shell", None, json!({})).await.message.contains("needs a script"));
    assert!(fault("exec", Some("ls -l"), json!({})).await.message.contains("uses: shell"));
    assert!(fault("shell", Some("x"), json!({"capture": "xml"})).await.message.contains("text"));
    assert!(fault("shell", Some("x"), json!({"limits": {"memory": "much"}})).await.message.contains("512M"));
    assert!(fault("shell", Some("x"), json!({"user": "nobody-here"})).await.message.contains("nobody-here"));
}

#[tokio::test]
async fn another_user() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let bench = Bench::new();
    std::os::unix::fs::chown(bench.path(), Some(12345), None).unwrap();
    let script = "id -u; id -g; echo a=1 > $OSTLER_OUTPUT; echo x > $OSTLER_SCRATCH/x";
    let mut call = request("shell", Some(script), json!({"capture": "lines", "user": "12345:54321"}));
    call.working_directory = Some("/".into());
    assert_eq!(bench.output(call).await, json!({"a": "1", "stdout": ["12345", "54321"]}));
}

/// 20 MB of a real child into a real log, or 1 GB with `OSTLER_TEST_LONG`: every line arrives, memory stays bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_output_reaches_the_log() {
    let bench = Bench::new();
    let lines: u64 = if std::env::var_os("OSTLER_TEST_LONG").is_some() { 20_000_000 } else { 400_000 };
    let logs = RunLogs::new(bench.path().join("logs"), Arc::new(SystemClock)).with_limit(4 << 30);
    let script = format!("seq -f 'a line of a child that talks a lot, number %.0f' 1 {lines}");
    let call = request("shell", Some(&script), json!({}));
    let run = call.run.unwrap();
    let writer = Arc::new(logs.writer(Some(run), 1));
    let sink = Arc::new(Discard);
    let context =
        ExecContext { cancel: Cancel::new(), log: writer.clone(), progress: sink.clone(), secrets: sink };
    let started = SystemClock.elapsed();
    let end = bench.executors.get("shell").unwrap().execute(call, context).await;
    writer.close();
    println!("{lines} lines in {:?}, {} bytes on disk", SystemClock.elapsed() - started, logs.bytes(run));
    assert_eq!(end.outcome, ExecOutcome::Succeeded);
    let mut reader = logs.reader(run, LogQuery::default(), None);
    let mut last = None;
    let mut count = 0;
    while let Some(record) = reader.next_record().unwrap() {
        count += 1;
        last = Some(record);
    }
    assert_eq!(count, lines);
    assert!(last.unwrap().line.ends_with(format!("number {lines}").as_bytes()));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    let peak: u64 = peak.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(peak < 150 * 1024, "{peak} KiB");
}
