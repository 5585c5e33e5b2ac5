"""A team of threads that runs programs together, phase by phase.

A program that can be shared has `run(environment)`, and `share(environment, phase, worker,
workers)`: what one of the workers does in one phase. A phase begins when all workers have ended
the one before. The program calls

    lead(environment, run, share, phases, useful, cycles, trial)

which runs it with `useful` workers at most: the caller is worker 0, and returns when all is done.
The team is there from the first call on, and of a forked process from its own first call. The
caller may as well call `run` alone, which gives the same bits, and does so

    where the team is at work for another thread;
    where members sleep, and the program, of so many `cycles`, is over before they are up: it
    wakes them for the next one;
    where that is quicker. From time to time some runs are timed, alone and together, and the
    better is kept to for a while; or until somebody has waited for another longer than the whole
    program takes: then other processes need the cores. `trial` holds what is known of a program.

Members wait and work without Python's global lock. They look out for the next program for a while
after the last one, since in a training loop it comes soon; then they sleep.

The waiting is written in LLVM IR, which has atomic operations on every machine.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import sys
import threading
from functools import cache
from typing import Any

from . import llvm
from .cache import Cache, enabled, key
from .cores import threads_by_default

MOST = 64  # workers
BRIEF = 300_000  # cycles of a program that does not wait for those who sleep
LOOK = 64  # cycles, roughly, of looking whether the others are ready, or a program has come
WATCHING = 10_000  # looks at whether there is a program, before sleep
TRIED = 4  # runs that are timed, alone and together
KEPT = 248  # runs for which the better way is kept to

# What is known of a program before its first run: the stage, how many runs of it are left, and the
# times taken alone and together. Some runs go by until all memory has been seen.
ALONE, TOGETHER, KEPT_ALONE, KEPT_TOGETHER = range(4)
TRIAL = (KEPT_ALONE, TRIED, 0, 0)


class _Seat(ctypes.Structure):
    """What concerns one member, on a cache line of its own (and its neighbour)."""

    _fields_ = (
        ("calls", ctypes.c_int64),  # how often it was called to take part
        ("asleep", ctypes.c_int64),
        ("lock", ctypes.c_void_p),  # taken; who sleeps waits for its release
        ("_", ctypes.c_int64 * 13),
    )


class _Team(ctypes.Structure):
    """The memory of the team: what different workers write lies on lines of its own."""

    _fields_ = (
        ("busy", ctypes.c_int64),
        ("_0", ctypes.c_int64 * 15),
        ("arrived", ctypes.c_int64),  # how many workers have ended a phase, added up
        ("_1", ctypes.c_int64 * 15),
        ("environment", ctypes.c_void_p),
        ("share", ctypes.c_void_p),  # null for members who are to leave
        ("phases", ctypes.c_int64),
        ("workers", ctypes.c_int64),
        ("size", ctypes.c_int64),  # 0 if the team has to be called together
        ("patience", ctypes.c_int64),  # looks that a worker waits for the others
        ("strained", ctypes.c_int64),  # whether one has waited longer
        ("runs", ctypes.c_int64),  # of programs, together
        ("_2", ctypes.c_int64 * 8),
        ("seats", _Seat * MOST),
    )


# Where the text finds the fields of `_Team`.
_FIELDS = {
    "@arrived": "i32 2",
    "@environment": "i32 4",
    "@share": "i32 5",
    "@phases": "i32 6, i64 0",
    "@workers": "i32 6, i64 1",
    "@size": "i32 6, i64 2",
    "@patience": "i32 6, i64 3",
    "@strained": "i32 6, i64 4",
    "@runs": "i32 6, i64 5",
}

_TEXT = f"""
%Seat = type {{ i64, i64, ptr, [13 x i64] }}
%Team = type {{ i64, [15 x i64], i64, [15 x i64], ptr, ptr, [6 x i64], [8 x i64], [{MOST} x %Seat] }}

@team = global %Team zeroinitializer, align 128

declare void @gather()
declare i32 @yield()
declare i32 @PyThread_acquire_lock(ptr, i32)
declare void @PyThread_release_lock(ptr)

; Wait until so many workers have arrived.
define internal void @await(i64 %all) {{
entry:
  %patience = load i64, ptr @patience
  br label %look
look:
  %looks = phi i64 [ 0, %entry ], [ %next, %again ], [ %looks, %polite ]
  %now = load atomic i64, ptr @arrived acquire, align 8
  %enough = icmp sge i64 %now, %all
  br i1 %enough, label %done, label %again
again:
  PAUSE
  %next = add i64 %looks, 1
  %on = icmp ult i64 %looks, %patience
  br i1 %on, label %look, label %polite
polite:
  store atomic i64 1, ptr @strained monotonic, align 8
  %_ = call i32 @yield()
  br label %look
done:
  ret void
}}

; One worker's part of every phase.
define internal void @work(i64 %me) {{
entry:
  %environment = load ptr, ptr @environment
  %share = load ptr, ptr @share
  %phases = load i64, ptr @phases
  %workers = load i64, ptr @workers
  br label %phase
phase:
  %number = phi i64 [ 0, %entry ], [ %next, %wait ]
  call void %share(ptr %environment, i64 %number, i64 %me, i64 %workers)
  %_ = atomicrmw add ptr @arrived, i64 1 acq_rel
  %next = add i64 %number, 1
  %more = icmp ult i64 %next, %phases
  br i1 %more, label %wait, label %done
wait:
  %all = mul i64 %next, %workers
  call void @await(i64 %all)
  br label %phase
done:
  ret void
}}

; Wake members 1 to workers - 1; `calls` is 1 if they are to take part, or 0.
define internal void @wake(i64 %workers, i64 %calls) {{
entry:
  br label %check
check:
  %k = phi i64 [ 1, %entry ], [ %next, %done ]
  %more = icmp ult i64 %k, %workers
  br i1 %more, label %member, label %end
member:
  %at_calls = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %k, i32 0
  %at_asleep = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %k, i32 1
  %at_lock = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %k, i32 2
  %_ = atomicrmw add ptr %at_calls, i64 %calls seq_cst
  %asleep = atomicrmw xchg ptr %at_asleep, i64 0 seq_cst
  %rouse = icmp ne i64 %asleep, 0
  br i1 %rouse, label %release, label %done
release:
  %lock = load ptr, ptr %at_lock
  call void @PyThread_release_lock(ptr %lock)
  br label %done
done:
  %next = add i64 %k, 1
  br label %check
end:
  ret void
}}

; How many of members 1 to workers - 1 are asleep.
define internal i64 @asleep(i64 %workers) {{
entry:
  br label %check
check:
  %k = phi i64 [ 1, %entry ], [ %next, %member ]
  %sum = phi i64 [ 0, %entry ], [ %total, %member ]
  %more = icmp ult i64 %k, %workers
  br i1 %more, label %member, label %end
member:
  %at_asleep = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %k, i32 1
  %asleep = load atomic i64, ptr %at_asleep monotonic, align 8
  %total = add i64 %sum, %asleep
  %next = add i64 %k, 1
  br label %check
end:
  ret i64 %sum
}}

; A run is over: count it, and decide how the next one is done.
define internal void @learn(ptr %trial, i64 %spent, i1 %strained) {{
  %at_left = getelementptr i64, ptr %trial, i64 1
  %at_alone = getelementptr i64, ptr %trial, i64 2
  %at_together = getelementptr i64, ptr %trial, i64 3
  %stage = load i64, ptr %trial
  %which = and i64 %stage, 1
  %at_sum = getelementptr i64, ptr %at_alone, i64 %which
  %sum = load i64, ptr %at_sum
  %total = add i64 %sum, %spent
  store i64 %total, ptr %at_sum
  %left = load i64, ptr %at_left
  %less = sub i64 %left, 1
  store i64 %less, ptr %at_left
  %over = icmp eq i64 %less, 0
  br i1 %over, label %turn, label %same
same:
  %kept = icmp eq i64 %stage, {KEPT_TOGETHER}
  %give_up = and i1 %kept, %strained
  %stays = select i1 %give_up, i64 {KEPT_ALONE}, i64 %stage
  store i64 %stays, ptr %trial
  ret void
turn:
  %alone = load i64, ptr %at_alone
  %together = load i64, ptr %at_together
  %margin = lshr i64 %together, 4
  %safe = add i64 %together, %margin
  %better = icmp ule i64 %safe, %alone
  %best = select i1 %better, i64 {KEPT_TOGETHER}, i64 {KEPT_ALONE}
  %tried_both = icmp eq i64 %stage, {TOGETHER}
  %tried_one = icmp eq i64 %stage, {ALONE}
  %again = select i1 %tried_one, i64 {TOGETHER}, i64 {ALONE}
  %next = select i1 %tried_both, i64 %best, i64 %again
  %runs = select i1 %tried_both, i64 {KEPT}, i64 {TRIED}
  %known = select i1 %tried_one, i64 %alone, i64 0
  store i64 %next, ptr %trial
  store i64 %runs, ptr %at_left
  store i64 %known, ptr %at_alone
  store i64 0, ptr %at_together
  ret void
}}

define void @lead(ptr %environment, ptr %run, ptr %share, i64 %phases, i64 %useful, i64 %cycles, ptr %trial) {{
entry:
  %known = load atomic i64, ptr @size acquire, align 8
  %nobody = icmp eq i64 %known, 0
  br i1 %nobody, label %call, label %claim
call:
  call void @gather()
  br label %claim
claim:
  %claimed = cmpxchg ptr @team, i64 0, i64 1 acq_rel monotonic
  %free = extractvalue {{ i64, i1 }} %claimed, 1
  br i1 %free, label %ours, label %alone
ours:
  %size = load i64, ptr @size
  %fewer = icmp ult i64 %size, %useful
  %workers = select i1 %fewer, i64 %size, i64 %useful
  %several = icmp ugt i64 %workers, 1
  br i1 %several, label %ask, label %leave
ask:
  %stage = load i64, ptr %trial
  %odd = and i64 %stage, 1
  %jointly = icmp ne i64 %odd, 0
  br i1 %jointly, label %count, label %try_alone
try_alone:
  %began_alone = call i64 @clock()
  call void %run(ptr %environment)
  %ended_alone = call i64 @clock()
  %spent_alone = sub i64 %ended_alone, %began_alone
  call void @learn(ptr %trial, i64 %spent_alone, i1 false)
  store atomic i64 0, ptr @team release, align 8
  ret void
count:
  %sleepers = call i64 @asleep(i64 %workers)
  %some = icmp ne i64 %sleepers, 0
  %brief = icmp ult i64 %cycles, {BRIEF}
  %late = and i1 %some, %brief
  br i1 %late, label %rouse, label %together
rouse:
  call void @wake(i64 %workers, i64 0)
  br label %leave
leave:
  store atomic i64 0, ptr @team release, align 8
  br label %alone
together:
  %began = call i64 @clock()
  %patience = udiv i64 %cycles, {LOOK}
  store i64 %patience, ptr @patience
  store i64 0, ptr @strained
  store i64 0, ptr @arrived
  store ptr %environment, ptr @environment
  store ptr %share, ptr @share
  store i64 %phases, ptr @phases
  store i64 %workers, ptr @workers
  call void @wake(i64 %workers, i64 1)
  call void @work(i64 0)
  %all = mul i64 %phases, %workers
  call void @await(i64 %all)
  %runs = load i64, ptr @runs
  %counted = add i64 %runs, 1
  store i64 %counted, ptr @runs
  %late_ones = load atomic i64, ptr @strained monotonic, align 8
  %strained = icmp ne i64 %late_ones, 0
  %ended = call i64 @clock()
  %spent = sub i64 %ended, %began
  call void @learn(ptr %trial, i64 %spent, i1 %strained)
  store atomic i64 0, ptr @team release, align 8
  ret void
alone:
  call void %run(ptr %environment)
  ret void
}}

; What a member does until it is called to nothing.
define void @follow(i64 %me) {{
entry:
  %at_calls = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %me, i32 0
  %at_asleep = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %me, i32 1
  %at_lock = getelementptr %Team, ptr @team, i64 0, i32 8, i64 %me, i32 2
  %lock = load ptr, ptr %at_lock
  br label %watch
watch:
  %answered = phi i64 [ 0, %entry ], [ %answered, %awake ], [ %calls, %take_part ]
  br label %look
look:
  %looks = phi i64 [ 0, %watch ], [ %next, %again ]
  %calls = load atomic i64, ptr %at_calls acquire, align 8
  %called = icmp ne i64 %calls, %answered
  br i1 %called, label %answer, label %again
again:
  PAUSE
  %next = add i64 %looks, 1
  %alert = icmp ult i64 %next, {WATCHING}
  br i1 %alert, label %look, label %lie_down
lie_down:
  %_ = atomicrmw xchg ptr %at_asleep, i64 1 seq_cst
  %last = load atomic i64, ptr %at_calls seq_cst, align 8
  %late = icmp ne i64 %last, %answered
  br i1 %late, label %get_up, label %sleep
get_up:
  ; Whoever has taken the flag away is about to release the lock.
  %flag = atomicrmw xchg ptr %at_asleep, i64 0 seq_cst
  %unseen = icmp ne i64 %flag, 0
  br i1 %unseen, label %awake, label %sleep
sleep:
  %held = call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  br label %awake
awake:
  br label %watch
answer:
  %share = load ptr, ptr @share
  %dismissed = icmp eq ptr %share, null
  br i1 %dismissed, label %end, label %take_part
take_part:
  call void @work(i64 %me)
  br label %watch
end:
  ret void
}}

; All members of a team of that size are there: who sees that sees what concerns them, too.
define void @assemble(i64 %size) {{
  store atomic i64 %size, ptr @size release, align 8
  ret void
}}

; Have all members leave once the team is free; then it has a new size.
define void @dismiss(i64 %size) {{
entry:
  br label %claim
claim:
  %claimed = cmpxchg ptr @team, i64 0, i64 1 acq_rel monotonic
  %free = extractvalue {{ i64, i1 }} %claimed, 1
  br i1 %free, label %ours, label %polite
polite:
  %_ = call i32 @yield()
  br label %claim
ours:
  %before = load i64, ptr @size
  store ptr null, ptr @share
  store atomic i64 %size, ptr @size release, align 8
  call void @wake(i64 %before, i64 1)
  store atomic i64 0, ptr @team release, align 8
  ret void
}}
"""

# What is written differently for each kind of CPU: that a waiting thread does nothing useful, and
# the time. There is no assembly in it: LLVM has no assembler here, and would end the process.
_X86 = """
declare void @llvm.x86.sse2.pause()
declare i64 @llvm.readcyclecounter()
define internal i64 @clock() {
  %now = call i64 @llvm.readcyclecounter()
  ret i64 %now
}
"""
_AARCH64 = """
declare void @llvm.aarch64.isb(i32)
declare i64 @llvm.read_volatile_register.i64(metadata)
!0 = !{!"cntvct_el0"}
define internal i64 @clock() {
  %now = call i64 @llvm.read_volatile_register.i64(metadata !0)
  ret i64 %now
}
"""
_OTHER = """
define internal i64 @clock() {
  ret i64 0
}
"""
_CPU = {
    "x86": ("call void @llvm.x86.sse2.pause()", _X86),
    # The hint to yield takes no time on most; to fetch what follows anew, as long as x86's pause.
    "aarch64": ("call void @llvm.aarch64.isb(i32 15)", _AARCH64),
}


def text() -> str:
    """What the members do, in LLVM IR for this kind of CPU."""
    pause, rest = _CPU.get(llvm.family(), ("", _OTHER))
    written = _TEXT.replace("PAUSE", pause) + rest
    for name, place in _FIELDS.items():
        field = f"getelementptr (%Team, ptr @team, i64 0, {place})"
        written = re.sub(rf"{name}\b", field, written)
    return written


def _code(text: str) -> bytes:
    """The machine code, kept on disk. It waits, most of the time, and need not be quick."""
    if not enabled():
        return llvm.compile_text(text, 0)
    cache = Cache()
    name = key((text.encode(), repr(llvm.target()).encode()))
    kept = cache.get(name)
    if kept is None:
        kept = llvm.compile_text(text, 0)
        cache.put(name, kept)
    return kept


class Team:
    """The members, as Python threads. There is one team: `team()`."""

    def __init__(self) -> None:
        from .linking import load  # of which who only sets the number of threads has no need

        rest: Any
        if sys.platform == "win32":
            rest = ctypes.WinDLL("kernel32").SwitchToThread
        else:
            rest = ctypes.CDLL(None).sched_yield
        python = ctypes.pythonapi
        self._gather = ctypes.CFUNCTYPE(None)(self.gather)
        imports: dict[str, Any] = {
            "gather": self._gather,
            "yield": rest,
            "PyThread_acquire_lock": python.PyThread_acquire_lock,
            "PyThread_release_lock": python.PyThread_release_lock,
        }
        self._library = load(
            _code(text()),
            {name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in imports.items()},
            ("team", "lead", "follow", "assemble", "dismiss"),
        )
        addresses = self._library.addresses
        self.lead = addresses["lead"]  # the address of the function
        self._follow = ctypes.CFUNCTYPE(None, ctypes.c_int64)(addresses["follow"])
        self._assemble = ctypes.CFUNCTYPE(None, ctypes.c_int64)(addresses["assemble"])
        self._dismiss = ctypes.CFUNCTYPE(None, ctypes.c_int64)(addresses["dismiss"])
        self._memory = _Team.from_address(addresses["team"])
        self._forget()
        atexit.register(self.dismiss, 1)
        if hasattr(os, "register_at_fork"):  # a forked process has no threads of its parent
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        ctypes.memset(ctypes.addressof(self._memory), 0, ctypes.sizeof(_Team))
        self._members: list[threading.Thread] = []
        self._change = threading.Lock()

    @property
    def size(self) -> int:
        """How many workers there are, the caller being one; 0 before the first program."""
        return int(self._memory.size)

    @property
    def sleeping(self) -> int:
        """How many members sleep."""
        return sum(int(seat.asleep) for seat in self._memory.seats)

    @property
    def runs(self) -> int:
        """How many programs they have run together."""
        return int(self._memory.runs)

    def gather(self) -> None:
        """Have as many workers as `get_num_threads` says."""
        with self._change:
            if self._memory.size:
                return
            size = min(get_num_threads(), MOST)
            for k in range(1, size):
                self._hire(k)
            self._assemble(size)

    def _hire(self, k: int) -> None:
        make, take = ctypes.pythonapi.PyThread_allocate_lock, ctypes.pythonapi.PyThread_acquire_lock
        make.restype, take.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int)
        seat = self._memory.seats[k]
        seat.calls = seat.asleep = 0
        if not seat.lock:
            seat.lock = make()
            take(seat.lock, 1)
        member = threading.Thread(
            target=self._follow, args=(k,), name=f"scalargrad-{k}", daemon=True
        )
        member.start()
        self._members.append(member)

    def dismiss(self, size: int = 0) -> None:
        """Let all members go. The next program finds a team of `size`; 0: it gathers a new one."""
        with self._change:
            self._dismiss(size)
            for member in self._members:
                member.join()
            self._members = []


@cache
def team() -> Team:
    """The team of this process."""
    return Team()


_chosen: list[int] = []  # what `set_num_threads` was told last


def get_num_threads() -> int:
    """How many threads a compiled program may use, the caller's own being one of them.

    By default the environment variable `SCALARGRAD_NUM_THREADS`, or else the CPU cores that this
    process may use. Raises `ValueError` if the variable is no positive integer.
    """
    return _chosen[-1] if _chosen else threads_by_default()


def set_num_threads(count: int) -> None:
    """Let compiled programs use `count` threads, the caller's own being one of them.

    Results do not depend on it, not in one bit, and only programs with enough work use more than
    one. Raises `ValueError` for a count below 1. As `torch.set_num_threads`.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"count: expected an integer of at least 1, got {count!r}")
    _chosen[:] = [count]
    if team.cache_info().currsize:
        team().dismiss()
