#!/usr/bin/env python3
"""A worker for jobs of `shell`, written from docs/worker.md with the standard library only.

OSTLER_SERVER=http://127.0.0.1:7467 OSTLER_TOKEN=ost_... OSTLER_WORKER_LABELS=shell python3 worker.py
"""
import json, os, random, signal, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request

SERVER, TOKEN = os.environ["OSTLER_SERVER"].rstrip("/"), os.environ.get("OSTLER_TOKEN", "")
SLOTS = int(os.environ.get("OSTLER_WORKER_SLOTS", "4"))
LABELS = [label for label in os.environ.get("OSTLER_WORKER_LABELS", "").split(",") if label]


class GivenUp(Exception):
    """The server does not know this worker any more."""


class Again(Exception):
    """The same request may be answered better later."""


def ask(method, path, body=None, wait=0):
    headers = {"Content-Type": "application/json", **({"Authorization": "Bearer " + TOKEN} if TOKEN else {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{SERVER}/api/v1/workers{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=wait + 10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        told = error.read().decode(errors="replace")
        if error.code in (404, 410):
            raise GivenUp(told) from None
        if error.code == 429 or error.code >= 500:
            raise Again(told) from None
        print(f"worker: {method} {path}: {error.code} {told}", file=sys.stderr, flush=True)
        os._exit(1)
    except (OSError, ValueError) as error:
        raise Again(str(error)) from None


class Job:
    def __init__(self, told):
        self.told, self.began = told, time.monotonic()
        self.name = (told["run"], told["fence"])
        self.lock, self.entries, self.first = threading.Lock(), [], 0
        self.process = self.cut = self.outcome = None

    def ref(self):
        return {"run": self.name[0], "fence": self.name[1]}

    def masked(self, text):
        for secret in sorted(self.told["mask"], key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def end(self, why, at_once=False):
        """Cuts it short: politely, and for good when its grace has passed."""
        self.cut = self.cut or why
        try:
            os.killpg(self.process.pid, signal.SIGKILL if at_once else signal.SIGTERM)
        except (AttributeError, ProcessLookupError):
            return
        if not at_once:
            grace = (self.told["grace_ms"] or 10_000) / 1000
            threading.Timer(grace, self.end, (why, True)).start()

    def read(self, stream, pipe):
        for line in pipe:
            text = self.masked(line.decode(errors="replace").rstrip("\n"))
            with self.lock:
                for at in range(0, max(len(text), 1), 16_000):
                    self.entries.append({"stream": stream, "line": text[at:at + 16_000]})
            worker.sending.set()

    def environment(self, output):
        told = self.told
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", *told["inherit_env"]) if name in os.environ}
        for name, value in (told["inputs"] or {}).items():
            if value is None or isinstance(value, (str, int, float, bool)):
                text = {None: "", True: "true", False: "false"}.get(value, value) if not isinstance(value, str) else value
                env["INPUT_" + "".join(c if c.isalnum() else "_" for c in name).upper()] = str(text)
        told_names = {"RUN_ID": "run", "ATTEMPT": "attempt", "FENCE": "fence", "IDEMPOTENCY_KEY": "idempotency_key",
                      "TASK": "task", "STEP": "step", "NAMESPACE": "namespace"}
        env.update({"OSTLER_" + name: str(told[field]) for name, field in told_names.items()})
        env.update(OSTLER_INPUTS=json.dumps(told["inputs"]), OSTLER_OUTPUT=output, **told["env"])
        return env

    def run(self):
        told = self.told
        try:
            if told["uses"] != "shell":
                raise LookupError("spawn", f"this worker knows `shell`, not `{told['uses']}`")
            with tempfile.TemporaryDirectory() as folder:
                output = os.path.join(folder, "output")
                where = told["working_directory"] if os.path.isdir(told["working_directory"] or "") else folder
                self.process = subprocess.Popen(
                    ["sh", "-e", "-c", told["code"]], cwd=where, env=self.environment(output), start_new_session=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if self.cut:
                    self.end(self.cut, True)
                readers = [threading.Thread(target=self.read, args=of, daemon=True) for of in
                           (("stdout", self.process.stdout), ("stderr", self.process.stderr))]
                for reader in readers:
                    reader.start()
                try:
                    self.process.wait(None if told["stop_in_ms"] is None else told["stop_in_ms"] / 1000)
                except subprocess.TimeoutExpired:
                    self.end("timed_out")
                    self.process.wait()
                try:
                    os.killpg(self.process.pid, signal.SIGKILL)  # whatever it left running
                except ProcessLookupError:
                    pass
                for reader in readers:
                    reader.join(5)
                pairs = [line.rstrip("\n").split("=", 1) for line in open(output)] if os.path.exists(output) else []
                values = {pair[0]: self.masked(pair[1]) for pair in pairs if len(pair) == 2}
            code = self.process.returncode
            if code == 0:
                outcome = {"state": "succeeded", "output": values, "exit_code": 0}
            elif self.cut:
                outcome = {"state": self.cut}
            else:
                error = {"class": f"exit:{code}", "message": f"the command ended with exit code {code}", "exit_code": code}
                outcome = {"state": "failed", "output": values, "exit_code": code, "error": error}
        except (LookupError, OSError) as error:
            kind = error.args[0] if isinstance(error, LookupError) else "spawn"
            outcome = {"state": "failed", "error": {"class": kind, "message": self.masked(str(error.args[-1]))}}
        self.outcome = outcome
        worker.sending.set()
        worker.room.set()


class Worker:
    def __init__(self):
        self.jobs, self.draining, self.gone = {}, False, False
        self.sending, self.room = threading.Event(), threading.Event()

    def held(self):
        return list(self.jobs.values())

    def kill(self):
        for job in self.held():
            if job.outcome is None:
                job.end("lost", True)

    def repeated(self, once):
        """Does something again and again; what may pass is waited out, with pauses that grow."""
        pause = 0.2
        while not self.gone:
            try:
                once()
                pause = 0.2
            except Again:
                time.sleep(pause * random.uniform(0.5, 1))
                pause = min(pause * 2, self.view["heartbeat_ms"] / 2000)
            except GivenUp:
                self.gone = True
                self.sending.set(), self.room.set()

    def claim(self):
        free = SLOTS - sum(job.outcome is None for job in self.held())
        if free <= 0 or self.draining:
            self.room.wait(0.5)
            self.room.clear()
            return
        wait = self.view["max_wait"]
        body = {"want": free, "wait": wait, "holds": [job.ref() for job in self.held()]}
        answer = ask("POST", f"/{self.node}/claim", body, wait)
        self.draining = self.draining or answer["drain"]
        for job in map(Job, answer["jobs"]):
            if job.name not in self.jobs:
                self.jobs[job.name] = job
                threading.Thread(target=job.run, daemon=True).start()

    def heartbeat(self):
        half = self.view["heartbeat_ms"] / 2000
        sent, held = time.monotonic(), self.held()
        body = {"wait": int(half), "holds": [job.ref() for job in held], "draining": self.draining,
                "cancelled": [job.ref() for job in held if job.cut == "cancelled"]}
        answer = ask("POST", f"/{self.node}/heartbeat", body, half)
        self.heard, self.draining = max(self.heard, sent), self.draining or answer["drain"]
        for told, why, at_once in [(t, "cancelled", False) for t in answer["cancel"]] + [(t, "lost", True) for t in answer["lost"]]:
            job = self.jobs.get((told["run"], told["fence"]))
            if job and job.outcome is None:
                job.end(why, at_once)
        if int(half) == 0:
            time.sleep(half)

    def send(self):
        self.sending.wait(0.5)
        self.sending.clear()
        for job in self.held():
            ended = job.outcome  # looked at first: its lines are all there then
            while job.entries:
                with job.lock:
                    batch = job.entries[:500]
                body = {**job.ref(), "attempt": job.told["attempt"], "first": job.first, "entries": batch}
                next = ask("POST", f"/{self.node}/logs", {"logs": [body]})["logs"][0]["next"]
                with job.lock:
                    del job.entries[:len(job.entries) if next is None else next - job.first]
                    job.first = job.first if next is None else next
            if ended:
                ago = int((time.monotonic() - job.began) * 1000)
                ask("POST", f"/{self.node}/outcomes", {"outcomes": [{**job.ref(), **ended, "began_ms_ago": ago}]})
                del self.jobs[job.name]

    def watch_lease(self):
        """Nothing runs on when the server was not heard of for too long: others may begin it again."""
        while not self.gone:
            if time.monotonic() - self.heard > self.view["lease_ms"] * 0.75 / 1000:
                self.kill()
            time.sleep(0.1)

    def work(self):
        self.view = ask("POST", "", {"name": f"python {os.getpid()}", "slots": SLOTS, "labels": LABELS})
        self.node, self.heard = self.view["node"], time.monotonic()
        for loop in (self.claim, self.heartbeat, self.send):
            threading.Thread(target=self.repeated, args=(loop,), daemon=True).start()
        threading.Thread(target=self.watch_lease, daemon=True).start()
        while not self.gone and not (self.draining and not self.jobs):
            time.sleep(0.1)
        if self.gone:
            self.kill()
            return
        found = ask("POST", f"/{self.node}/claim", {"want": 0, "holds": []})["jobs"]
        ask("POST", f"/{self.node}/release", {"jobs": [Job(told).ref() for told in found]})
        ask("DELETE", f"/{self.node}")


def drain(*_):
    worker.draining = True


signal.signal(signal.SIGTERM, drain)
signal.signal(signal.SIGINT, drain)
while True:
    worker = Worker()
    try:
        worker.work()
    except Again as error:
        print(f"worker: the server does not answer: {error}", file=sys.stderr)
        time.sleep(1)
    if worker.draining:
        break
