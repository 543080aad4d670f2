"""What is counted of a program, on texts and on programs whose operations are known; and the training programs."""

from __future__ import annotations

import pytest

from benchmarks.programs import count, training
from tests.toys.products import spared

MODULE = """HloModule step

%body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p = (s32[], f32[4]{0}) parameter(0)
  %x = f32[4]{0} get-tuple-element(%p), index=1
  %c = s32[] constant(1)
  %f = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="a while(b) scatter(c)"}
  %s = f32[4]{0} copy(%f)
  ROOT %t = (s32[], f32[4]{0}) tuple(%c, %s)
}

%fused (q: f32[4]) -> f32[4] {
  %q = f32[4]{0} parameter(0)
  %i = s32[1]{0} constant({0})
  ROOT %sc = f32[4]{0} scatter(%q, %i, %q), to_apply=%add
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%condition (p.1: (s32[], f32[4])) -> pred[] {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  %n = s32[] get-tuple-element(%p.1), index=0
  ROOT %lt = pred[] compare(%n, %n), direction=LT
}

%short (u: f32[4]) -> f32[4] {
  ROOT %u = f32[4]{0} parameter(0)
}

%long (v: f32[4]) -> f32[4] {
  %v = f32[4]{0} parameter(0)
  %neg = f32[4]{0} negate(%v)
  ROOT %exp = f32[4]{0} exponential(%neg)
}

%wrapped (w: f32[4]) -> f32[4] {
  %w = f32[4]{0} parameter(0)
  ROOT %sin = f32[4]{0} sine(%w)
}

ENTRY %main (arg: f32[4], go: pred[]) -> f32[4] {
  %arg = f32[4]{0} parameter(0)
  %go = pred[] parameter(1)
  %zero = s32[] constant(0)
  %start = (s32[], f32[4]{0}) tuple(%zero, %arg)
  %loop = (s32[], /*index=1*/f32[4]{0}) while(%start), condition=%condition, body=%body, KNOWN
  %got = f32[4]{0} get-tuple-element(%loop), index=1
  %called = f32[4]{0} call(%got), to_apply=%wrapped
  %back = () custom-call(%called), custom_call_target="xla_ffi_partitioned_python_cpu_callback"
  ROOT %which = f32[4]{0} conditional(%go, %called, %got), true_computation=%long, false_computation=%short
}
"""
KNOWN = 'backend_config={"known_trip_count":{"n":"5"}}'


def test_counts_of_a_written_program():
    """Five times fusion and copy; sine; callback; the conditional with its two-operation branch."""
    found = count(MODULE.replace("KNOWN", KNOWN))
    assert found.operations == 5 * 2 + 1 + 1 + (1 + 2)
    assert (found.conditionals, found.scatters, found.transfers, found.unbounded) == (1, 1, 1, 0)


def test_a_loop_of_unknown_length_is_counted_once_and_said():
    found = count(MODULE.replace(", KNOWN", ""))
    assert (found.operations, found.unbounded) == (2 + 1 + 1 + 3, 1)


def test_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        count("HloModule empty")


CEILINGS = {"bc": 200, "finetune": 19_000}
"""Executed operations of a step; an iteration of 16 decisions of 8 control steps and 32 minibatches. At these sizes
no draw of a decision is large enough for the loop of `ops.unrolled`; at the main job's they are 277 and 21,080."""


@pytest.mark.heavy
@pytest.mark.parametrize("stage", CEILINGS)
@spared("finetune")
def test_training_programs_stay_lean(stage):
    """Nothing waits for the host or adds in an arbitrary order."""
    counts = training((stage,), {"learner.num_envs": "64", "bc.batch_size": "64"})[stage]
    assert (counts.conditionals, counts.scatters, counts.transfers, counts.unbounded) == (0, 0, 0, 0)
    assert 0.5 * CEILINGS[stage] < counts.operations <= CEILINGS[stage]
