"""Small guests, written as text and assembled here."""

from __future__ import annotations

import wasmtime

_WASI = """
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get"
    (func $clock_time_get (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_res_get"
    (func $clock_res_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff"
    (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open
      (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size"
    (func $set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_seek"
    (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_remove_directory"
    (func $remove_folder (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get"
    (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get"
    (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept"
    (func $sock_accept (param i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  ;; Write LENGTH bytes at POINTER to descriptor FD; the vector lies at 0, the count at 8.
  (func $write (param $fd i32) (param $pointer i32) (param $length i32) (result i32)
    (i32.store (i32.const 0) (local.get $pointer))
    (i32.store (i32.const 4) (local.get $length))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func $read (param $pointer i32) (param $length i32) (result i32)
    (i32.store (i32.const 0) (local.get $pointer))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
"""


def assemble(text: str) -> bytes:
    """Return the module of a text."""
    return bytes(wasmtime.wat2wasm(text))


def command(body: str, *, definitions: str = "") -> bytes:
    """Return a command whose ``_start`` is ``body``, with WASI and ``$write`` at hand."""
    return assemble(f'(module {_WASI} {definitions} (func $main (export "_start") {body}))')


HELLO = command(
    "(drop (call $write (i32.const 1) (i32.const 1024) (i32.const 6)))",
    definitions='(data (i32.const 1024) "hello\\n")',
)
ECHO = command(
    """(local $n i32)
    (loop $again
      (local.set $n (call $read (i32.const 1024) (i32.const 4096)))
      (if (local.get $n) (then
        (drop (call $write (i32.const 1) (i32.const 1024) (local.get $n)))
        (br $again))))"""
)
FOREVER = assemble('(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))')
SAYS_AND_LOOPS = command(
    """(drop (call $write (i32.const 1) (i32.const 1024) (i32.const 6)))
    (drop (call $write (i32.const 2) (i32.const 1030) (i32.const 5)))
    (loop (br 0))""",
    definitions='(data (i32.const 1024) "begun\\nerror")',
)
FLOOD = command(
    """(loop
      (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 65536)))
      (br 0))"""
)
TAKES_MEMORY_TO_COMPILE = assemble(
    '(module (memory (export "memory") 1) (func (export "_start"))' + "(func)" * 200_000 + ")"
)
WANTS_10_GB = assemble('(module (memory (export "memory") i64 163840) (func (export "_start")))')
GROWS_TO_10_GB = command(
    """(loop $again
      (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    (call $proc_exit (i32.const 3))"""
)
TRAPS = assemble('(module (func $main (export "_start") unreachable))')
DIVIDES = assemble(
    '(module (func $f (export "_start") (drop (i32.div_s (i32.const 1) (i32.const 0)))))'
)
OVERFLOWS = assemble('(module (func $f (export "_start") (call $f)))')
EXITS_200 = command("(call $proc_exit (i32.const 200))")
LIBRARY = assemble('(module (func (export "add")))')
TAKES_ARGUMENTS = assemble('(module (func (export "_start") (param i32)))')
NEEDS_A_HOST = assemble(
    '(module (import "env" "secret" (func $f)) (func (export "_start") (call $f)))'
)
BAD_SIGNATURE = assemble(
    '(module (import "wasi_snapshot_preview1" "proc_exit" (func $f (param i64)))'
    ' (func (export "_start")))'
)
NOT_VALID = b"\0asm\x01\0\0\0\x63\x01\x00"
COMPONENT = b"\0asm\x0d\0\x01\0"


def opens(path: str, *, flags: int = 0, rights: int = 2, folder: int = 3) -> bytes:
    """Return a command that opens ``path`` below a preopened folder and exits with the errno."""
    data = path.encode()
    return command(
        f"""(call $proc_exit (call $path_open (i32.const {folder}) (i32.const 0) (i32.const 1024)
          (i32.const {len(data)}) (i32.const {flags}) (i64.const {rights}) (i64.const 0)
          (i32.const 0) (i32.const 512)))""",
        definitions=f'(data (i32.const 1024) "{path}")',
    )


def writes(size: int, *, files: int = 1, before: str = "") -> bytes:
    """Return a command that makes files a, b, c … and writes ``size`` bytes in all.

    The first files get as much as the page holds, the last one the rest; no error is looked at.
    ``before`` may do something with the first file, whose descriptor is 4.
    """
    each, rest = divmod(size, files)
    return command(
        f"""(local $i i32) (local $left i32) (local $piece i32)
        (loop $next
          (i32.store8 (i32.const 1024) (i32.add (i32.const 97) (local.get $i)))
          (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 1)
            (i32.const 1) (i64.const 0x400044) (i64.const 0) (i32.const 0) (i32.const 512)))
          {before}
          (local.set $left (i32.const {each}))
          (if (i32.eq (local.get $i) (i32.const {files - 1}))
            (then (local.set $left (i32.const {each + rest}))))
          (block $done (loop $more
            (br_if $done (i32.eqz (local.get $left)))
            (local.set $piece (select (local.get $left) (i32.const 65536)
              (i32.lt_u (local.get $left) (i32.const 65536))))
            (drop (call $write (i32.load (i32.const 512)) (i32.const 2048) (local.get $piece)))
            (local.set $left (i32.sub (local.get $left) (local.get $piece)))
            (br $more)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const {files}))))"""
    )


def replaces_folder_by_file(name: str) -> bytes:
    """Return a command that removes an empty folder, makes a file of that name, and says how."""
    where = f"(i32.const 3) (i32.const 1024) (i32.const {len(name)})"
    return command(
        f"""(call $proc_exit (i32.or (call $remove_folder {where})
          (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const {len(name)})
            (i32.const 5) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 512))))""",
        definitions=f'(data (i32.const 1024) "{name}")',
    )


def has_memory(pages: int) -> bytes:
    """Return a command that has a memory of so many pages from its start."""
    return assemble(f'(module (memory (export "memory") {pages}) (func (export "_start")))')


def opens_until_refused(end: str, *, most: int = 5000) -> bytes:
    """Return a command that opens a.txt until it is refused, closes nothing, and then ``end``.

    It opens it at most so often.
    """
    return command(
        f"""(local $errno i32) (local $i i32)
        (loop $again
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024)
            (i32.const 5) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 512)))
          (br_if $again (i32.and (i32.eqz (local.get $errno))
            (i32.lt_u (local.get $i) (i32.const {most})))))
        {end}""",
        definitions='(data (i32.const 1024) "a.txt")',
    )


def traps_at_its_start(number: int) -> bytes:
    """Return one of many modules that trap in their start section."""
    return assemble(
        f'(module (memory (export "memory") 1) (data (i32.const 0) "{number}")'
        ' (func $early unreachable) (start $early) (func (export "_start")))'
    )


def fills_scratch(*, files: int) -> bytes:
    """Return a command that makes files a, b, c … and never stops writing into them."""
    return command(
        f"""(local $i i32) (local $file i32)
        (loop $next
          (i32.store8 (i32.const 1024) (i32.add (i32.const 97) (local.get $i)))
          (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 1)
            (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 512)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $i) (i32.const {files}))))
        (loop $forever
          (local.set $file (i32.const 4))
          (loop $each
            (drop (call $write (local.get $file) (i32.const 2048) (i32.const 65536)))
            (local.set $file (i32.add (local.get $file) (i32.const 1)))
            (br_if $each (i32.lt_u (local.get $file) (i32.const {4 + files}))))
          (br $forever))"""
    )


# Sleeps for 1000 seconds by the clock, then writes the time before and after.
SLEEPS = command(
    """(drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1024)))
    (i64.store (i32.const 256) (i64.const 77))
    (i32.store8 (i32.const 264) (i32.const 0))
    (i32.store (i32.const 272) (i32.const 1))
    (i64.store (i32.const 280) (i64.const 1000000000000))
    (i32.store16 (i32.const 296) (i32.const 0))
    (drop (call $poll_oneoff (i32.const 256) (i32.const 320) (i32.const 1) (i32.const 400)))
    (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1032)))
    (i64.store (i32.const 1040) (i64.load (i32.const 320)))
    (i32.store (i32.const 1048) (i32.load (i32.const 400)))
    (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 28)))"""
)
# Writes 64 random bytes, the wall clock, the clock's resolution, and a NaN made by arithmetic.
LOOKS_AROUND = command(
    """(drop (call $random_get (i32.const 1024) (i32.const 32)))
    (drop (call $random_get (i32.const 1056) (i32.const 32)))
    (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 1088)))
    (drop (call $clock_res_get (i32.const 0) (i32.const 1096)))
    (f64.store (i32.const 1104)
      (f64.sub (f64.reinterpret_i64 (i64.const 0x7ff8000000001234)) (f64.const 1)))
    (drop (call $environ_sizes_get (i32.const 1112) (i32.const 1116)))
    (drop (call $write (i32.const 1) (i32.const 1024) (i32.const 96)))"""
)
# Gives pointers beyond its memory; exits with the sum of the errnos.
BAD_POINTERS = command(
    """(call $proc_exit (i32.add (i32.add (i32.add
      (call $random_get (i32.const -8) (i32.const 64))
      (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 131070)))
      (call $poll_oneoff (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 0)))
      (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))"""
)
# Counts what is preopened behind the working directory, and whether a socket is there.
SOCKETS = command(
    """(call $proc_exit (i32.add
      (i32.mul (i32.const 10)
        (i32.ne (call $fd_prestat_get (i32.const 4) (i32.const 512)) (i32.const 0)))
      (i32.ne (call $sock_accept (i32.const 3) (i32.const 0) (i32.const 512)) (i32.const 0))))"""
)
