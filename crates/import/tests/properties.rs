//! Whatever the files hold, nothing panics, and what is imported loads.
#![allow(clippy::unwrap_used)]

mod support;

use ostler_import::{File, Options, apscheduler, crontab, dagu, github, systemd};
use proptest::{collection::vec, prelude::*, sample::select};
use support::check;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn all(text: &[u8]) {
    for system in [false, true] {
        check(crontab(&File::new("crontab", text), &Options { system, ..Options::default() }));
    }
    let find = |_: &File, _: &str| Some(File::new("a.service", text));
    check(systemd(&[File::new("a@b.timer", text)], &find, &Options::default()));
    check(dagu(&[File::new("a.yaml", text)], &Options::default()));
    check(apscheduler(&[File::new("a.py", text)], &Options::default()));
    check(github(&[File::new("a.yml", text)], &Options::default()));
}

/// Pieces of all five formats, so that what is made of them often gets far.
const PIECES: &[&str] = &[
    "0 5 * * * ",
    "JOBS = [",
    "{'func': 'm:f', 'trigger': ",
    "'cron', ",
    "s.add_job(f, ",
    "@s.scheduled_job('interval', ",
    "CronTrigger(",
    "OrTrigger([",
    "hour=3, ",
    "'day': '1st mon', ",
    "args=[",
    "kwargs={'a': ",
    "id='x'",
    ", ",
    "])",
    "}",
    "def f():\n",
    "from a import f\n",
    "@daily ",
    "*/60 * * * * ",
    "0~9 1 * * * ",
    "root ",
    "A=1\n",
    "MAILTO=x\n",
    "HOME=/x\n",
    "SHELL=fish\n",
    "CRON_TZ=UTC\n",
    "true",
    "%",
    "\\%",
    "${{",
    "}}",
    "$${{ x }}",
    "$",
    "${A}",
    "$A",
    "`",
    "'",
    "\"",
    "\\",
    "\n",
    "\r\n",
    "# note\n",
    "[Unit]\n",
    "[Timer]\n",
    "[Service]\n",
    "OnCalendar=daily\n",
    "OnUnitActiveSec=1h\n",
    "OnBootSec=5\n",
    "Persistent=true\n",
    "RandomizedDelaySec=2h\n",
    "ExecStart=",
    "ExecStart=-/bin/a \"b\" ${C}\n",
    "Type=oneshot\n",
    "Environment=A=b \"C=d e\"\n",
    "User=u\n",
    "TimeoutStartSec=5\n",
    "ConditionX=y\n",
    "WorkingDirectory=/x\n",
    " ; ",
    "%i",
    "%h",
    "EnvironmentFile=-/a/../../b\n",
    "steps:\n",
    "  - name: a\n",
    "    command: echo hi\n",
    "    depends: a\n",
    "  - echo b\n",
    "    script: x\n",
    "params: A=1 2\n",
    "schedule: 0 0 * * *\n",
    "handlerOn:\n",
    "  exit: { command: x }\n",
    "env: [A: 1, B=2]\n",
    "    continueOn: { failure: true }\n",
    "    retryPolicy: { limit: 3, intervalSec: 2 }\n",
    "maxActiveRuns: 1\n",
    "on:\n",
    "  schedule: [{ cron: '0 0 * * *' }]\n",
    "  workflow_dispatch: { inputs: { type: { default: a } } }\n",
    "jobs:\n",
    "  build:\n",
    "    needs: build\n",
    "    steps:\n",
    "      - run: echo ${{ matrix.a }} ${{ inputs.type }} ${{ secrets.B }}\n",
    "      - uses: x\n",
    "        if: always()\n",
    "        id: c\n",
    "      - run: echo ${{ steps.c.outputs.d }}\n",
    "    strategy: { matrix: { a: [1, 2] } }\n",
    "        env: { A: '${{ github.sha }}' }\n",
    "        timeout-minutes: 5\n",
    "  ",
    "- ",
    ": ",
    "a",
    "\u{0}",
    "\u{2028}",
    "é",
    "{",
    "}",
    "[",
    "]",
];

/// Whole files, of which parts are changed.
const SEEDS: &[&str] = &[
    include_str!("table.txt"),
    include_str!("golden/backup.timer"),
    include_str!("golden/backup.service"),
    include_str!("golden/dagu.input.yaml"),
    include_str!("golden/workflow.yml"),
];

proptest! {
    #![proptest_config(config(256))]

    #[test]
    fn bytes_do_not_panic(bytes in vec(any::<u8>(), 0..300)) {
        all(&bytes);
    }

    #[test]
    fn pieces_do_not_panic(pieces in vec(select(PIECES), 0..30)) {
        all(pieces.concat().as_bytes());
    }

    #[test]
    fn changed_files_do_not_panic(
        seed in select(SEEDS), cuts in vec((any::<prop::sample::Index>(), 0usize..12, select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = seed.chars().take(4_000).collect();
        for (at, length, piece) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        all(text.into_iter().collect::<String>().as_bytes());
    }
}
