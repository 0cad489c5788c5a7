"""The Python side of Ostler's python executor: takes calls over a socket, one at a time.

Frames are a length (4 bytes, little-endian) and JSON. A call comes with two descriptors, which are standard output and
standard error while it runs, so that what a call leaves behind cannot write into the log of the next. Needs Python 3.9
and nothing else.
"""

import ast
import asyncio
import importlib
import importlib.abc
import importlib.util
import inspect
import io
import json
import linecache
import os
import runpy
import signal
import socket
import struct
import sys
import threading
import traceback
import types

OUTPUT_LIMIT = 1 << 20
SNIPPET = "<run>"


class Fault(Exception):
    """A failure with a class of its own, without a traceback."""

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Channel:
    def __init__(self, number):
        self.socket = socket.socket(fileno=number)
        self.socket.set_inheritable(False)
        self.lock = threading.Lock()

    def receive(self):
        head, fds, _, _ = socket.recv_fds(self.socket, 4, 2)
        if not head:
            return None, []
        while len(head) < 4:
            head += self.socket.recv(4 - len(head))
        body = bytearray()
        (length,) = struct.unpack("<I", head)
        while len(body) < length:
            part = self.socket.recv(min(length - len(body), 1 << 20))
            if not part:
                return None, []
            body += part
        return json.loads(body), fds

    def send(self, wait=False, **message):
        body = json.dumps(message, ensure_ascii=False, default=plain, allow_nan=False).encode()
        with self.lock:
            self.socket.sendall(struct.pack("<I", len(body)) + body)
            # One byte says that it was taken to heart.
            if wait:
                self.socket.recv(1)


def plain(value):
    """JSON for what the standard encoder does not know."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, os.PathLike) or type(value).__name__ in ("UUID", "Decimal"):
        return str(value)
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return value.item() if getattr(value, "ndim", 0) == 0 else value.tolist()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def helper_module(channel):
    """`import ostler` inside a call: the current call's own face."""
    module = types.ModuleType("ostler", "Speaks to the Ostler that runs this code.")

    def progress(done=None, total=None, message=None):
        """Reports how far the work is: `progress(3, 10, "pages")`, `progress(message="waiting")`."""
        channel.send(progress={"done": done, "total": total, "message": message})

    def output(**values):
        """Hands outputs on to later steps."""
        channel.send(output=values)

    def mask(secret):
        """Hides a value in the log from here on."""
        channel.send(wait=True, mask=str(secret))

    def inputs():
        """The inputs of the run."""
        return json.loads(module._inputs)

    module._inputs = "{}"
    module.progress, module.output, module.mask, module.inputs = progress, output, mask, inputs
    return module


class LastResort(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds our helper when no installed package has its name."""

    def __init__(self, module):
        self.module = module

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "ostler" else None

    def create_module(self, spec):
        return self.module

    def exec_module(self, module):
        pass


class Sources:
    """Knows when code that is loaded was changed on disk."""

    def __init__(self):
        self.count = 0
        self.stamps = {}
        # What belongs to the interpreter does not change under it.
        self.fixed = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix})

    def note(self):
        if len(sys.modules) == self.count:
            return
        self.count = len(sys.modules)
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if path and path not in self.stamps and not path.startswith(self.fixed):
                self.stamps[path] = self.stamp(path)

    def changed(self):
        return any(self.stamp(path) != stamp for path, stamp in self.stamps.items())

    @staticmethod
    def stamp(path):
        try:
            found = os.stat(path)
            return found.st_mtime_ns, found.st_size
        except OSError:
            return None


def load_entrypoint(target):
    name, _, attribute = target.partition(":")
    if not attribute:
        raise Fault("settings", f"`{target}` is not an entrypoint: write `package.module:function`")
    try:
        found = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise Fault("spawn", f"there is no module `{error.name}` for `{target}`; looked in the working directory and {sys.prefix}") from None
        raise
    return attribute_of(found, attribute, target)


def load_file(path, attribute):
    name = os.path.splitext(os.path.basename(path))[0]
    known = sys.modules.get(name)
    if known is None or getattr(known, "__file__", None) != path:
        folder = os.path.dirname(path)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise Fault("settings", f"`{path}` is not a Python file")
        known = importlib.util.module_from_spec(spec)
        sys.modules[name] = known
        try:
            spec.loader.exec_module(known)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return attribute_of(known, attribute, path)


def attribute_of(module, attribute, target):
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
            hint = f"; it has {', '.join(sorted(names)[:8])}" if names else ""
            raise Fault("settings", f"`{target}` has no `{attribute}`{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise Fault("settings", f"`{attribute}` of `{target}` is not a function")
    return found


def apply(function, call):
    """Calls a function with `args` and `kwargs`; without both, with the inputs that it has parameters for."""
    args, kwargs = call["args"], call["kwargs"]
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    if not args and not kwargs:
        inputs = call["inputs"] if isinstance(call["inputs"], dict) else {}
        if signature is not None:
            parameters = signature.parameters.values()
            if any(p.kind is p.VAR_KEYWORD for p in parameters):
                kwargs = inputs
            else:
                takes = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
                kwargs = {name: value for name, value in inputs.items() if name in takes}
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            name = getattr(function, "__name__", "the function")
            raise Fault("input", f"{name}{signature}: {error}") from None
    return awaited(function(*args, **kwargs))


def awaited(value):
    if inspect.isawaitable(value):
        async def wait():
            return await value

        return asyncio.run(wait())
    return value


def run_snippet(code, call):
    linecache.cache[SNIPPET] = (len(code), None, code.splitlines(True), SNIPPET)
    tree = ast.parse(code, SNIPPET)
    names = {"__name__": "__main__", "__builtins__": __builtins__, "inputs": call["inputs"]}
    # A real module, so that classes of the snippet can be pickled.
    main = types.ModuleType("__main__")
    main.__dict__.update(names)
    sys.modules["__main__"] = main
    names = main.__dict__
    if has_return(tree):
        function = ast.parse("async def snippet(): pass", SNIPPET)
        function.body[0].body = tree.body
        exec(compile(ast.fix_missing_locations(function), SNIPPET, "exec"), names)
        return awaited(names["snippet"]())
    awaited(eval(compile(tree, SNIPPET, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names))
    return names.get("output", names.get("result"))


def has_return(tree):
    """Whether the code returns outside of any function."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Return):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))
    return False


def perform(call):
    kind = call["kind"]
    if kind == "entrypoint":
        return apply(load_entrypoint(call["target"]), call)
    if kind == "file":
        return apply(load_file(call["target"], call["function"]), call)
    if kind == "script":
        sys.argv = [call["target"], *map(str, call["args"])]
        sys.path.insert(0, os.path.dirname(call["target"]))
        runpy.run_path(call["target"], run_name="__main__")
        return None
    return run_snippet(call["code"], call)


def failure(error):
    """The class, message and traceback of an exception, without our own frames."""
    kind = type(error)
    own = kind.__module__ in ("builtins", "__main__", None)
    name = kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}"
    hide(error, set())
    detail = "".join(traceback.format_exception(kind, error, error.__traceback__))
    return {"class": f"python.{name}", "message": f"{kind.__name__}: {error}", "detail": detail[-16384:]}


def hide(error, seen):
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, runpy.__file__, "<frozen runpy>"):
        frames = frames.tb_next
    error.__traceback__ = frames
    hide(error.__cause__, seen)
    hide(error.__context__, seen)


def answer(call):
    try:
        result = perform(call)
        try:
            text = json.dumps(result, ensure_ascii=False, default=plain, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            return {"class": "output", "message": f"the result cannot be handed on as JSON: {error}"}
        if len(text) > 2 * OUTPUT_LIMIT:
            return {"class": "output", "message": f"the result has {len(text)} characters of JSON; a step may hand on {OUTPUT_LIMIT} bytes, write it to a file"}
        return {"result": json.loads(text)}
    except Fault as fault:
        return {"class": fault.kind, "message": str(fault)}
    except SystemExit as end:
        if end.code in (None, 0):
            return {"result": None}
        code = end.code if isinstance(end.code, int) else 1
        message = f"the code ended with exit code {code}" + ("" if isinstance(end.code, int) else f": {end.code}")
        return {"class": f"exit:{code}", "message": message, "exit_code": code}
    except SyntaxError as error:
        told = failure(error)
        return told
    except BaseException as error:
        return failure(error)


def leftovers(threads):
    """Whether the call left threads or processes behind."""
    if threading.active_count() > threads:
        return True
    try:
        tasks = os.listdir("/proc/self/task") if threads > 1 else [threading.get_native_id()]
        for task in tasks:
            with open(f"/proc/self/task/{task}/children", "rb", buffering=0) as children:
                if children.read(16):
                    return True
    except OSError:
        pass
    return False


def switch(number, to):
    os.dup2(to, number)
    os.set_inheritable(number, True)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


def serve(channel, helper):
    sources = Sources()
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    folder = os.getcwd()
    base = dict(os.environ)
    path = list(sys.path)
    while True:
        call, fds = channel.receive()
        if call is None:
            return
        if call["warm"] and sources.changed():
            channel.send(stale=True)
            return
        for number, fd in zip((1, 2), fds):
            switch(number, fd)
            os.close(fd)
        helper._inputs = json.dumps(call["inputs"])
        os.environ.update(call["env"])
        threads = threading.active_count()
        told = answer(call)
        flush()
        retire = not call["warm"]
        if not retire:
            if os.environ != base:
                for name in [name for name in os.environ if name not in base]:
                    del os.environ[name]
                os.environ.update({name: value for name, value in base.items() if os.environ.get(name) != value})
            try:
                os.chdir(folder)
            except OSError:
                retire = True
            sys.path[:] = path + [p for p in sys.path if p not in path]
            sources.note()
            retire = retire or leftovers(threads) or sys.stdout.closed or sys.stderr.closed
        # All that the call wrote is in its pipes by now; they are let go only after the answer, to wake Ostler once.
        channel.send(ended=told, retire=retire)
        if retire:
            return
        for number in (1, 2):
            switch(number, nowhere)


def terminate(number, frame):
    # So that `finally` and `with` do their work before the end.
    raise SystemExit(128 + number)


def main():
    channel = Channel(int(os.environ.pop("OSTLER_CHANNEL_FD")))
    signal.signal(signal.SIGTERM, terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.path[0:1] = [os.getcwd()]
    helper = helper_module(channel)
    sys.meta_path.append(LastResort(helper))
    sys.argv = [""]
    serve(channel, helper)
