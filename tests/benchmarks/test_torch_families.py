"""The PyTorch families compute what ours compute: networks, losses, gradients, samples and codebooks."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import render
from mmbc_jax.core.types import PolicySpec
from mmbc_jax.nn.chunk_encoder import TransformerEncoder
from mmbc_jax.nn.chunk_mlp import ChunkMLP
from mmbc_jax.nn.chunk_transformer import ChunkTransformer
from mmbc_jax.nn.chunk_unet import ChunkUNet
from mmbc_jax.nn.obs_encoder import ObsEncoder
from mmbc_jax.policies._codebook import Codebook, update

torch = pytest.importorskip("torch", reason="the benchmarks' optional dependency")
torch_subjects = pytest.importorskip("benchmarks.mirrors.subjects")
torch_families = pytest.importorskip("benchmarks.torch_families")
torch_networks = pytest.importorskip("benchmarks.mirrors.networks")
torch_transformer = pytest.importorskip("benchmarks.mirrors.transformer")
torch_contenders = pytest.importorskip("benchmarks.mirrors.contenders")

SPEC = PolicySpec(obs_dim=3, action_dim=2, chunk_len=4)
OBS = ObsEncoder(SPEC.obs)
BATCH = 5
SMALL = {
    "flow / mlp": {"hidden": (16, 16)},
    "diffusion / mlp": {"hidden": (16, 16, 16)},
    "diffusion / unet": {"channels": (8, 16), "width": 12},
    "cvae / transformer": {"width": 16, "depth": 1, "heads": 4, "latent_dim": 3},
    "vq / transformer": {"width": 12, "depth": 1, "heads": 3, "latent_dim": 4, "prior_hidden": (8,)},
}


def small(label: str):
    """The subject of that label with a network that compiles quickly."""
    subject = next(subject for subject in torch_subjects.SUBJECTS if subject.label == label)
    return dataclasses.replace(subject, spec=SPEC, options={**subject.options, **SMALL[label]})


def random_params(network, *arguments):
    """Random parameters of a network, which only has to be traced for their shapes."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *arguments)["params"]
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), jnp.float32), shapes)


def apply(network, params, *arguments):
    return jax.jit(lambda p, a: network.apply({"params": p}, *a))(params, arguments)


def inputs() -> tuple[np.ndarray, ...]:
    """x [B, H, A], t [B], obs [B, D], z [B, 2]."""
    rng = np.random.default_rng(1)
    shapes = ((BATCH, *SPEC.chunk_shape), (BATCH,), (BATCH, SPEC.obs_dim), (BATCH, 2))
    return tuple(rng.uniform(0, 1, shape).astype(np.float32) for shape in shapes)


def check(ours, theirs) -> None:
    theirs = theirs.detach().numpy()
    assert np.abs(theirs).max() > 0.1
    assert np.abs(theirs - theirs.mean(0)).max() > 1e-2
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(
    "network",
    [
        ChunkMLP(OBS, SPEC.chunk_shape, (16, 16, 8), "relu", residual=True, time_dim=6),
        ChunkMLP(OBS, SPEC.chunk_shape, (8, 16)),
        ChunkMLP(ObsEncoder(SPEC.obs, 3), SPEC.chunk_shape, (16, 8)),
        ChunkUNet(OBS, SPEC.chunk_shape, (8, 16, 24), width=12, time_dim=6),
    ],
)
def test_networks_of_noisy_chunks_agree(network) -> None:
    x, t, obs, _ = inputs()
    params = random_params(network, x, t, obs)
    module = torch_subjects.make_network(network, SPEC)
    torch_networks.copy_weights(params, module)
    x_, t_, obs_ = (torch.tensor(a) for a in (x, t, obs))
    context = module.encode(obs_)
    check(apply(network, params, x, t, obs), module.decode(x_, t_, context))
    check(apply(network, params, x, 0.3, obs), module.decode(x_, torch.tensor(0.3), context))


def test_transformer_agrees() -> None:
    _, _, obs, z = inputs()
    network = ChunkTransformer(OBS, SPEC.chunk_shape, width=12, depth=2, heads=3)
    params = random_params(network, None, None, obs, z)
    module = torch_subjects.make_network(network, SPEC, extra=2)
    torch_networks.copy_weights(params, module)
    theirs = module(torch.tensor(obs), torch.tensor(z))
    check(apply(network, params, None, None, obs, z), theirs)


def test_encoder_agrees() -> None:
    chunk, _, obs, _ = inputs()
    network = TransformerEncoder(OBS, 6, width=12, depth=2, heads=3)
    params = random_params(network, chunk, obs)
    module = torch_subjects.make_network(network, SPEC)
    torch_networks.copy_weights(torch_transformer.in_blocks(params), module)
    check(apply(network, params, chunk, obs), module(torch.tensor(chunk), torch.tensor(obs)))


def test_features_in_front_of_other_networks_are_refused() -> None:
    network = ChunkUNet(ObsEncoder(SPEC.obs, 1), SPEC.chunk_shape, (8, 16), width=12)
    with pytest.raises(ValueError, match="only the MLP"):
        torch_subjects.make_network(network, SPEC)


def test_weights_that_do_not_fit_are_refused() -> None:
    module = torch_networks.MLP((3, 4, 2))
    dense = [{"kernel": np.zeros(shape), "bias": np.zeros(shape[1])} for shape in ((3, 4), (4, 2))]
    torch_networks.copy_weights({"Dense_0": dense[0], "Dense_1": dense[1]}, module)
    with pytest.raises(ValueError, match="16 values for the 26"):
        torch_networks.copy_weights({"Dense_0": dense[0]}, module)
    with pytest.raises(ValueError, match="into a parameter of shape"):
        torch_networks.copy_weights({"Dense_0": dense[1], "Dense_1": dense[0]}, module)
    with pytest.raises(ValueError, match="does not halve"):
        torch_networks.ChunkUNet(3, (6, 2), (8, 8, 8), 4, 4, "gelu")


@pytest.mark.parametrize("label", SMALL)
def test_subjects_agree(label: str) -> None:
    found = torch_families.agreement(small(label), batch_size=9)
    assert found["loss"] < 1e-5
    assert found["gradient"] < 1e-4
    assert found["chunk"] < 1e-4
    assert ("codes" in found) == label.startswith("vq")
    assert found.get("codes", 0.0) < 1e-5


@pytest.mark.parametrize("label", ["flow / mlp", "diffusion / mlp", "cvae / transformer", "vq / transformer"])
def test_other_noise_gives_another_loss(label: str) -> None:
    """Or agreement would not show that the noise is used."""
    built = torch_subjects.build(small(label), 9)
    data = torch_subjects.tensors(built.batch)
    losses, codes = [], []
    for seed in (3, 4):
        module = built.mirror()
        if label.startswith("vq"):  # its noise moves dead codes; all are alive at first
            module.share.fill_(1e-6)
        losses.append(module(*data, *torch_subjects.training_noise(built, jax.random.key(seed))).item())
        codes.append(getattr(module, "codes", None))
    if label.startswith("vq"):
        assert losses[0] == losses[1]
        assert (codes[0] - codes[1]).abs().max() > 1e-3
    else:
        assert abs(losses[0] - losses[1]) > 1e-3


def test_dead_codes_move_alike() -> None:
    built = torch_subjects.build(small("vq / transformer"), 9)
    module, book, key = built.mirror(), built.variables.stats["codebook"], jax.random.key(5)
    share = jnp.where(jnp.arange(book.share.shape[1]) % 2 == 0, 1e-6, book.share)
    module.share.copy_(torch.tensor(np.asarray(share)))
    rng = np.random.default_rng(0)
    layers, num_codes, width = book.codes.shape
    index = rng.integers(0, 3, (9, layers)).astype(np.int32)
    residual = rng.standard_normal((9, layers, width)).astype(np.float32)
    ours = update(Codebook(book.codes, share, book.total), key, index, residual, 0.99, 0.03)
    pick = jax.random.randint(jax.random.clone(key), share.shape, 0, 9)
    module.move(torch.tensor(index).long(), torch.tensor(residual), torch.tensor(np.array(pick)))
    assert np.abs(np.asarray(ours.codes - book.codes)).max() > 0.1
    for name in ("codes", "share", "total"):
        np.testing.assert_allclose(getattr(module, name).numpy(), getattr(ours, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label", ["diffusion / mlp", "vq / transformer"])
def test_blocks_train_and_samplers_draw(label: str) -> None:
    built = torch_subjects.build(small(label), 9)
    before, mirror = built.mirror(), built.mirror()
    torch_contenders.their_steps(dataclasses.replace(built, mirror=lambda: mirror), 2, compiled=False)()
    after = torch_contenders.our_steps(built, 2)().params
    pairs = zip(jax.tree.leaves(after), jax.tree.leaves(built.variables.params), strict=True)
    ours = [float(jnp.abs(a - b).max()) for a, b in pairs]
    pairs = zip(mirror.parameters(), before.parameters(), strict=True)
    for moved in (ours, [float((a - b).detach().abs().max()) for a, b in pairs]):
        # AdamW moves no entry by more than about its rate in a step
        assert np.max(moved) < 2.1 * torch_contenders.LEARNING_RATE
        assert np.mean(np.array(moved) > 0.5 * torch_contenders.LEARNING_RATE) > 0.9
    obs = np.array(built.batch.obs)
    samplers = [torch_contenders.our_sampler(built)]
    samplers += [torch_contenders.their_sampler(built, 9, trace=trace) for trace in (False, True)]
    for sample in samplers:
        first, second = sample(obs), sample(obs)
        assert first.shape == (9, *SPEC.chunk_shape)
        assert np.isfinite(first).all()
        assert np.abs(first - second).max() > 1e-3


def test_compilation_is_by_block_where_there_are_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(type(self).__name__))
    torch_contenders.compile_blocks(torch_subjects.build(small("cvae / transformer"), 2).mirror())
    assert sorted(compiled) == ["AdaLNBlock", "EncoderBlock"]
    compiled.clear()
    torch_contenders.compile_blocks(torch_subjects.build(small("flow / mlp"), 2).mirror())
    assert compiled == ["Flow"]


def test_cases_and_table() -> None:
    subject = next(s for s in torch_subjects.SUBJECTS if s.label == "diffusion / mlp")
    cases = torch_families.cases_of(subject)
    assert [(case.work, case.batch_size) for case in cases] == [
        ("train", 64), ("train", 256), ("sample", 1), ("sample", 64), ("sample", 1), ("sample", 64),
    ]  # fmt: skip
    spread = dict.fromkeys(("median", "q25", "q75", "min", "max"), 0.002)
    names = ("mmbc_jax", "torch eager")
    case = {
        "subject": "flow / mlp", "work": "train", "sampler": "", "batch_size": 64,
        "seconds": dict.fromkeys(names, spread), "ratio": {names[1]: spread}, "cpu_ratio": {names[1]: spread},
        "left_out": {"torch compile": "no compiler"},
    }  # fmt: skip
    run = {"cores": 1, "cases": [case, case], "facts": {"flow / mlp": {"parameters": 817_154}}}
    table, without = render.torch_families({"runs": [run]})
    assert "| 1 | flow / mlp | 0.82 | train | 64 | 2.00 [2.00, 2.00] | 2.00 [2.00, 2.00] | - |" in table
    assert "| torch compile | no compiler | flow / mlp train 64 on 1; flow / mlp train 64 on 1 |" in without
