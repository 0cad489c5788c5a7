//! `python`: real interpreters, cold and warm.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::{fs, process::Command as Process, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest, Progress};
use serde_json::{Value, json};
use support::{Bench, alive, eventually, request};

fn entry(target: &str, kwargs: Value) -> ExecRequest {
    let mut call = request("python", None, json!({"entrypoint": target}));
    call.kwargs = kwargs.as_object().unwrap().clone();
    call
}

fn snippet(code: &str) -> ExecRequest {
    request("python", Some(code), json!({}))
}

#[tokio::test]
async fn a_function_is_called_with_json_and_answers_with_json() {
    let bench = Bench::new();
    bench.write("shop/__init__.py", "");
    bench.write(
        "shop/reports.py",
        "import os\nfrom datetime import date\n\
         def daily(day, *, rows=()):\n    print('größe', day)\n    return {'day': day, 'rows': sum(rows), 'on': date(2027, 1, 2), 'set': {1}}\n\
         async def later(n):\n    import asyncio\n    await asyncio.sleep(0)\n    return n * 2\n\
         def scalar():\n    return [1, None]\n\
         def env():\n    return {k: os.environ.get(k) for k in ('OSTLER_ATTEMPT', 'INPUT_A', 'MINE', 'OSTLER_SPAWN')}\n",
    );
    let (end, record) = bench.run(entry("shop.reports:daily", json!({"day": "mon", "rows": [1, 2]}))).await;
    assert_eq!(
        end.output,
        json!({"day": "mon", "rows": 3, "on": "2027-01-02", "set": [1]}),
        "{}",
        record.all()
    );
    assert_eq!(record.stdout(), ["größe mon"]);
    let mut call = entry("shop.reports:later", json!({}));
    call.args = vec![json!(21)];
    assert_eq!(bench.output(call).await, json!(42));
    assert_eq!(bench.output(entry("shop.reports:scalar", json!({}))).await, json!([1, null]));
    // Without arguments the inputs that it has parameters for.
    let mut call = entry("shop.reports:daily", json!({}));
    call.inputs = json!({"day": "tue", "other": 1});
    assert_eq!(bench.output(call).await["day"], "tue");
    let mut call = entry("shop.reports:env", json!({}));
    call.inputs = json!({"a": 1});
    call.env = [("MINE".to_owned(), "x".to_owned())].into();
    let output = bench.output(call).await;
    assert_eq!(
        (&output["OSTLER_ATTEMPT"], &output["INPUT_A"], &output["MINE"]),
        (&json!("2"), &json!("1"), &json!("x"))
    );
}

#[tokio::test]
async fn failures_are_typed_with_a_traceback() {
    let bench = Bench::new();
    bench.write(
        "m.py",
        "class Own(Exception): pass\n\
         def bad():\n    raise ValueError('no good')\n\
         def own():\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        raise Own('mine') from e\n\
         def leave(code):\n    raise SystemExit(code)\n\
         def die():\n    import os, sys; print('last words', file=sys.stderr, flush=True); os._exit(7)\n\
         def odd():\n    return object()\n\
         def big():\n    return 'x' * 3_000_000\n",
    );
    let error = bench.error(entry("m:bad", json!({}))).await;
    assert_eq!(
        (error.class.0.as_str(), error.message.as_str()),
        ("python.ValueError", "ValueError: no good")
    );
    let detail = error.detail.unwrap();
    assert!(detail.contains("m.py\", line 3, in bad") && !detail.contains("ostler_worker"), "{detail}");
    let error = bench.error(entry("m:own", json!({}))).await;
    assert_eq!(error.class.0, "python.m.Own");
    assert!(error.detail.unwrap().contains("ZeroDivisionError"));
    let error = bench.error(entry("m:leave", json!({"code": 3}))).await;
    assert_eq!((error.class.0.as_str(), error.exit_code), ("exit:3", Some(3)));
    let error = bench.error(entry("m:die", json!({}))).await;
    assert_eq!(error.class.0, "exit:7");
    assert!(error.message.contains("last words"), "{error}");
    assert_eq!(bench.error(entry("m:odd", json!({}))).await.class.0, "output");
    assert_eq!(bench.error(entry("m:big", json!({}))).await.class.0, "output");
    let error = bench.error(entry("m:bad", json!({"what": 1}))).await;
    assert_eq!(error.class.0, "input");
    assert!(error.message.contains("unexpected keyword argument 'what'"), "{error}");
    let error = bench.error(entry("nowhere.to.be:found", json!({}))).await;
    assert!(error.class.0 == "spawn" && error.message.contains("`nowhere`"), "{error}");
    let error = bench.error(entry("m:gone", json!({}))).await;
    assert!(error.message.contains("has no `gone`; it has bad, big"), "{error}");
}

#[tokio::test]
async fn snippets_answer_in_four_ways() {
    let bench = Bench::new();
    let mut call = snippet("rows = inputs['rows']\nif rows:\n    return {'n': len(rows)}\n");
    call.inputs = json!({"rows": [1, 2]});
    assert_eq!(bench.output(call).await, json!({"n": 2}));
    assert_eq!(bench.output(snippet("output = 6 * 7")).await, json!(42));
    assert_eq!(
        bench.output(snippet("import asyncio\nawait asyncio.sleep(0)\nresult = 'late'")).await,
        json!("late")
    );
    assert_eq!(
        bench.output(snippet("import ostler\nostler.output(a=1)\nprint('::ostler output b=2')")).await,
        json!({"a": 1, "b": "2"})
    );
    let error = bench.error(snippet("x = 1\nraise KeyError('k')")).await;
    assert_eq!(error.class.0, "python.KeyError");
    assert!(error.detail.unwrap().contains("line 2"));
    let error = bench.error(snippet("x = (")).await;
    assert_eq!(error.class.0, "python.SyntaxError");
    let mut call = snippet("import sys\nreturn sys.stdin.read()");
    call.stdin = Some("from stdin".into());
    assert_eq!(bench.output(call).await, json!("from stdin"));
}

#[tokio::test]
async fn files_call_run_or_are_scripts() {
    let bench = Bench::new();
    bench.write("job.py", "from side import x\ndef run(**options):\n    return {'x': x, **options}\ndef other():\n    return 'o'\n");
    bench.write("side.py", "x = 1\n");
    bench.write("tools/script.py", "import sys, os\nprint(__name__, sys.argv[1:])\nopen(os.environ['OSTLER_OUTPUT'], 'w').write('a=1')\nsys.exit(int(sys.argv[2]))\n");
    let mut call = request("python", None, json!({"file": "job.py"}));
    call.kwargs = json!({"k": "v"}).as_object().unwrap().clone();
    assert_eq!(bench.output(call).await, json!({"x": 1, "k": "v"}));
    assert_eq!(
        bench.output(request("python", None, json!({"file": "job.py", "function": "other"}))).await,
        json!("o")
    );
    let mut call = request("python", None, json!({"file": "tools/script.py", "capture": "text"}));
    call.args = vec![json!("one"), json!(0)];
    assert_eq!(bench.output(call.clone()).await, json!({"a": "1", "stdout": "__main__ ['one', '0']"}));
    call.args = vec![json!("one"), json!(4)];
    assert_eq!(bench.error(call).await.class.0, "exit:4");
    let error = bench.error(request("python", None, json!({"file": "../x.py"}))).await;
    assert_eq!(error.class.0, "settings");
}

#[tokio::test]
async fn warm_workers_keep_state_but_not_the_environment() {
    let bench = Bench::new();
    bench.write(
        "w.py",
        "import os\ncalls = 0\ndef f(set=None):\n    global calls\n    calls += 1\n    seen = os.environ.get('LEAK')\n    os.environ['LEAK'] = 'x'\n    os.chdir('/')\n    return {'calls': calls, 'pid': os.getpid(), 'leak': seen, 'key': os.environ['OSTLER_IDEMPOTENCY_KEY']}\n",
    );
    let first = bench.output(entry("w:f", json!({}))).await;
    let mut call = entry("w:f", json!({}));
    call.idempotency_key = "another".into();
    let second = bench.output(call).await;
    assert_eq!((&second["calls"], &second["pid"], &second["leak"]), (&json!(2), &first["pid"], &Value::Null));
    assert_eq!(second["key"], "another");
    // Another declared environment, another process; and `warm: false` always one.
    let mut call = entry("w:f", json!({}));
    call.env = [("A".to_owned(), "1".to_owned())].into();
    assert_eq!(bench.output(call).await["calls"], 1);
    let mut call = entry("w:f", json!({}));
    call.with.insert("warm".into(), json!(false));
    assert_eq!(bench.output(call).await["calls"], 1);
    // Changed code is loaded anew.
    bench.write("w.py", "def f():\n    return 'changed'\n");
    assert_eq!(bench.output(entry("w:f", json!({}))).await, json!("changed"));
}

#[tokio::test]
async fn a_call_that_leaves_something_behind_ends_its_worker() {
    let bench = Bench::new();
    bench.write(
        "left.py",
        "import subprocess\ndef f():\n    p = subprocess.Popen(['sh', '-c', 'sleep 100; echo late'])\n    print('mine')\n    return p.pid\ndef g():\n    print('quiet')\n",
    );
    let (end, record) = bench.run(entry("left:f", json!({}))).await;
    assert_eq!(record.stdout(), ["mine"]);
    let pid = i32::try_from(end.output.as_i64().unwrap()).unwrap();
    assert!(eventually(|| !alive(pid)).await);
    let (_, record) = bench.run(entry("left:g", json!({}))).await;
    assert_eq!(record.all(), "quiet\n");
}

#[tokio::test]
async fn a_dead_worker_is_replaced() {
    let bench = Bench::new();
    bench.write("p.py", "import os\ndef f():\n    return os.getpid()\n");
    let first = bench.output(entry("p:f", json!({}))).await.as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(eventually(|| !alive(i32::try_from(first).unwrap())).await);
    let second = bench.output(entry("p:f", json!({}))).await.as_i64().unwrap();
    assert_ne!(first, second);
}

#[tokio::test]
async fn cancel_lets_finally_run() {
    let bench = Bench::new();
    bench.write("c.py", "import time\ndef f():\n    try:\n        print('ready')\n        time.sleep(100)\n    finally:\n        print('tidy')\n");
    for warm in [true, false] {
        let mut call = entry("c:f", json!({}));
        call.with.insert("warm".into(), json!(warm));
        let (cancel, record, running) = bench.start(call);
        assert!(eventually(|| !record.stdout().is_empty()).await);
        cancel.fire(CancelReason::TimedOut);
        assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
        assert_eq!(record.stdout(), ["ready", "tidy"]);
    }
    let deaf =
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready')\ntime.sleep(100)";
    let mut call = snippet(deaf);
    call.grace = Duration::from_millis(50);
    let (cancel, record, running) = bench.start(call);
    assert!(eventually(|| !record.stdout().is_empty()).await);
    cancel.fire(CancelReason::Cancelled);
    assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
}

#[tokio::test]
async fn progress_and_masks_go_by_the_channel() {
    let bench = Bench::new();
    let code = "import ostler\nostler.mask('hunter2')\nprint('a hunter2')\nostler.progress(1, 2, 'half')\nreturn ostler.inputs()";
    let mut call = snippet(code);
    call.inputs = json!({"a": [1]});
    let (end, record) = bench.run(call).await;
    assert_eq!(end.output, json!({"a": [1]}));
    assert_eq!(record.progress(), [Progress { done: Some(1), total: Some(2), message: Some("half".into()) }]);
    assert!(!record.all().contains("hunter2"));
}

/// A wheel made here: a zip file of three texts.
fn wheel(bench: &Bench, folder: &str, version: &str) {
    let code = format!(
        "import zipfile\nz = zipfile.ZipFile('{folder}/tiny-{version}-py3-none-any.whl', 'w')\n\
         z.writestr('tiny.py', 'VALUE = \"tiny {version}\"')\n\
         z.writestr('tiny-{version}.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: {version}\\n')\n\
         z.writestr('tiny-{version}.dist-info/WHEEL', 'Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
         z.writestr('tiny-{version}.dist-info/RECORD', '')\nz.close()\n"
    );
    fs::create_dir_all(bench.path().join(folder)).unwrap();
    assert!(
        Process::new("python3").args(["-c", &code]).current_dir(bench.path()).status().unwrap().success()
    );
}

#[tokio::test]
async fn dependencies_are_installed_once_from_local_wheels() {
    let bench = Bench::new();
    wheel(&bench, "wheels", "1.0");
    bench.write(
        "dep.py",
        "# /// script\n# requires-python = \">=3.9\"\n# dependencies = [\"tiny\"]\n#\n# [tool.uv]\n# find-links = [\"wheels\"]\n# ///\nimport tiny, sys\ndef run():\n    return [tiny.VALUE, sys.prefix]\n",
    );
    let call = || request("python", None, json!({"file": "dep.py"}));
    let ((first, _), (second, _)) = tokio::join!(bench.run(call()), bench.run(call()));
    let prefix = first.output[1].as_str().unwrap_or_else(|| panic!("{first:?}")).to_owned();
    assert_eq!((&first.output[0], &first.output), (&json!("tiny 1.0"), &second.output));
    assert!(prefix.starts_with(bench.path().to_str().unwrap()));
    let (third, record) = bench.run(call()).await;
    assert_eq!((third.output, record.all().as_str()), (first.output, ""));
    // Another wheel of that name is another environment; a direct file is found as well.
    wheel(&bench, "other", "2.0");
    let mut direct = snippet("import tiny\nreturn tiny.VALUE");
    direct.with = json!({"dependencies": ["tiny"], "find_links": ["other"], "no_index": true})
        .as_object()
        .unwrap()
        .clone();
    assert_eq!(bench.output(direct.clone()).await, json!("tiny 2.0"));
    direct.with["dependencies"] = json!(["tiny==3.0"]);
    let error = bench.error(direct).await;
    assert_eq!(error.class.0, "python.environment");
    assert!(error.detail.unwrap().contains("tiny==3.0"));
}

#[tokio::test]
async fn interpreters_are_chosen_and_missed_with_a_word() {
    let bench = Bench::new();
    let mut call = snippet("import sys\nreturn sys.version_info[0]");
    call.with = json!({"python": "python3"}).as_object().unwrap().clone();
    assert_eq!(bench.output(call.clone()).await, json!(3));
    call.with = json!({"python": "python2.5"}).as_object().unwrap().clone();
    let error = bench.error(call.clone()).await;
    assert!(error.class.0 == "spawn" && error.message.contains("install Python"), "{error}");
    call.with = json!({"requires_python": ">=3.99"}).as_object().unwrap().clone();
    let error = bench.error(call.clone()).await;
    assert!(error.message.contains("but the code needs >=3.99"), "{error}");
    call.with = json!({}).as_object().unwrap().clone();
    call.env = [("PATH".to_owned(), "/nowhere".to_owned())].into();
    assert!(bench.error(call).await.message.contains("`python3` was not found"));
}

/// The figure is printed; the bound is low enough for a busy machine.
#[tokio::test]
async fn warm_calls_are_fast() {
    let bench = Bench::new();
    bench.write("fast.py", "def f(n):\n    return n\n");
    bench.output(entry("fast:f", json!({"n": 0}))).await;
    let calls = 500;
    let started = SystemClock.elapsed();
    for n in 0..calls {
        assert_eq!(bench.output(entry("fast:f", json!({"n": n}))).await, json!(n));
    }
    let rate = f64::from(calls) / (SystemClock.elapsed() - started).as_secs_f64();
    println!("{rate:.0} warm calls a second");
    assert!(rate > 100.0, "{rate}");
}
