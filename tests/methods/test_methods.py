"""What every method of the registry keeps, and what each paper says of its own."""

import itertools
import math
from typing import Any, get_args

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from scipy.integrate import trapezoid
from scipy.linalg import sqrtm
from torch import Tensor, nn

from bench.training.conformance import in_float64
from methods import METHODS, heads
from methods.base import Method, Teacher
from methods.byol import BYOL
from methods.config import PredictorKind, TeacherConfig
from methods.losses import normalize, squared_distance
from methods.raft import RAFT
from methods.wmse import whiten

WITH_TEACHER = [name for name, cls in METHODS.items() if issubclass(cls.Config, TeacherConfig)]
WITH_PREDICTOR = [name for name, cls in METHODS.items() if "predictor" in cls.Config.model_fields]
KINDS = get_args(PredictorKind)
TRAINED = [name for name in METHODS if name != "random"]
SMALL = {"wmse": {"projector_out": 5, "whitening_size": 8}}  # of batches of 16
TEACHERS = {"raft", "byol", "byol_prime", "moco_v3", "dino", "directpred", "moco_v2"}


class TinyBackbone(nn.Sequential):
    num_features = 12

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 12, 3, bias=False),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.recreate = TinyBackbone


def build(name: str, seed: int = 0, **config: Any) -> Method:
    cls = METHODS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = TinyBackbone()
        torch.manual_seed(seed + 1)
        return cls(
            backbone, cls.Config(**{**SMALL.get(name, {}), **config}), **({"n_classes": 4} if cls.uses_labels else {})
        )


def views(n: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 8, generator=generator), torch.randn(n, 3, 8, 8, generator=generator)


def loss_of(method: Method, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
    labels = [torch.arange(len(x1)) % 4] if method.uses_labels else []
    losses: dict[str, Tensor] = method(x1, x2, *labels)
    return losses


def test_the_methods_with_a_teacher_are_the_ones_we_think() -> None:
    assert set(WITH_TEACHER) >= TEACHERS


MULTI_CROP = [name for name, cls in METHODS.items() if cls.Config.most_views is None]


def crops(n: int = 16) -> list[Tensor]:
    """Two views, and two small ones."""
    generator = torch.Generator().manual_seed(5)
    return [*views(n), *(torch.randn(n, 3, 4, 4, generator=generator) for _ in range(2))]


def test_the_methods_for_small_crops_are_the_ones_we_think() -> None:
    assert {"dino", "swav"} <= set(MULTI_CROP)


@pytest.mark.parametrize("name", MULTI_CROP)
def test_small_crops_pass_the_backbone_one_by_one_and_their_order_does_not_matter(name: str) -> None:
    method, given = build(name), crops()
    seen: list[torch.Size] = []
    method.backbone.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    loss = method(*given)["loss"]
    assert seen == [view.shape for view in given]
    other = build(name)(*given[:2], *reversed(given[2:]))["loss"]
    assert loss.item() == pytest.approx(other.item(), rel=1e-5)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in method.backbone.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_does_not_depend_on_which_view_is_first(name: str) -> None:
    x1, x2 = views()
    first, second = loss_of(build(name), x1, x2)["loss"], loss_of(build(name), x2, x1)["loss"]
    assert first.item() == pytest.approx(second.item(), rel=1e-5)


@pytest.mark.parametrize(("name", "kind"), [*itertools.product(WITH_PREDICTOR, KINDS)])
def test_every_predictor_kind_trains(name: str, kind: str) -> None:
    method = build(name, predictor=kind)
    method(*views())["loss"].backward()
    layers = [type(module) for module in method.get_submodule("predictor").modules()]
    counts = sum(layer is nn.Linear for layer in layers), sum(issubclass(layer, nn.BatchNorm1d) for layer in layers)
    assert counts == {"mlp": (2, 1), "mlp_no_bn": (2, 0), "linear_bn": (1, 1), "linear": (1, 0), "none": (0, 0)}[kind]


@pytest.mark.parametrize("kind", ["mlp", "mlp_no_bn", "linear_bn", "linear"])
def test_every_predictor_but_the_identity_has_a_mirrored_one(kind: PredictorKind) -> None:
    """-h, which the theorem needs: the last layer, linear or an affine batch norm, with the other sign."""
    h = heads.predictor(kind, 5, 7)
    z = torch.randn(16, 5)
    last = [module for module in h.modules() if [*module.parameters(recurse=False)]][-1]
    with torch.no_grad():
        for p in last.parameters():
            p.normal_()  # a bias that is not 0
    expected = -h(z)
    with torch.no_grad():
        for p in last.parameters():
            p.neg_()
    torch.testing.assert_close(h(z), expected)


@pytest.mark.parametrize("name", WITH_PREDICTOR)
def test_a_frozen_predictor_passes_gradients_and_is_not_trained(name: str) -> None:
    method = build(name, predictor_frozen=True)
    method(*views())["loss"].backward()
    predictor = [*method.get_submodule("predictor").parameters()]
    trained = {id(p) for group in method.param_groups() for p in group["params"]}
    assert predictor and not trained & {id(p) for p in predictor}
    assert all(p.grad is None for p in predictor)
    assert all(p.grad is not None and p.grad.any() for p in method.backbone.parameters())


# Teacher


@pytest.mark.parametrize("init", ["copy", "random"])
@pytest.mark.parametrize("name", WITH_TEACHER)
def test_the_teacher_shares_no_storage_with_the_online_network(name: str, init: str) -> None:
    method = build(name, teacher_init=init)
    teacher = method.get_submodule("teacher")
    own = {t.data_ptr() for t in teacher.state_dict().values() if t.numel()}
    online = {t.data_ptr() for k, t in method.state_dict().items() if not k.startswith("teacher.") and t.numel()}
    assert not own & online


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_the_teacher_gets_no_gradient_and_no_optimizer(name: str) -> None:
    method = build(name)
    method(*views())["loss"].backward()
    parameters = list(method.get_submodule("teacher").parameters())
    assert all(p.grad is None and not p.requires_grad for p in parameters)
    assert not {id(p) for p in parameters} & {id(p) for group in method.param_groups() for p in group["params"]}


@pytest.mark.parametrize("init", ["copy", "random"])
def test_the_teacher_starts_as_a_copy_or_with_weights_of_its_own(init: str) -> None:
    method = build("byol", teacher_init=init)
    pairs = zip(method.backbone.parameters(), method.get_submodule("teacher.backbone").parameters(), strict=True)
    weights = [(p, t) for p, t in pairs if p.ndim > 1]
    assert all(torch.equal(p, t) == (init == "copy") for p, t in weights)
    for p, t in weights:  # of the same distribution: spreads within 15 % of each other
        assert t.std().item() == pytest.approx(p.std().item(), rel=0.15)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_teacher_follows_the_schedule_of_its_rate(schedule: Any) -> None:
    method = build("byol", tau=0.9, tau_schedule=schedule)
    teacher = method.get_submodule("teacher")
    assert isinstance(teacher, Teacher)
    with torch.no_grad():
        for p in method.backbone.parameters():
            p.add_(1.0)
    for k in range(10):
        before = [p.clone() for p in teacher.backbone.parameters()]
        method.after_step(k / 10)
        tau = 0.9 if schedule == "constant" else 1 - 0.1 * (math.cos(math.pi * k / 10) + 1) / 2
        for old, new, online in zip(before, teacher.backbone.parameters(), method.backbone.parameters(), strict=True):
            torch.testing.assert_close(new, tau * old + (1 - tau) * online)


def test_the_cosine_schedule_begins_at_tau_and_ends_at_one() -> None:
    teacher = build("byol", tau=0.9).get_submodule("teacher")
    assert isinstance(teacher, Teacher)
    assert teacher.tau(0) == pytest.approx(0.9)
    assert teacher.tau(0.5) == pytest.approx(0.95)
    assert teacher.tau(1) == pytest.approx(1)


# The papers' losses


def embeddings(method: Method, x1: Tensor, x2: Tensor) -> tuple[Tensor, ...]:
    assert isinstance(method, BYOL)
    return method.embeddings(x1, x2)


@pytest.mark.parametrize("seed", range(5))
def test_losses_are_the_protocols_formulas(seed: int) -> None:
    x1, x2 = views(seed=seed)
    q1, q2, t1, t2 = (e.double() for e in embeddings(build("byol"), x1, x2))

    def d(a: Tensor, b: Tensor) -> float:
        return ((a - b) ** 2).sum(dim=1).mean().item()

    byol = (d(q1, t2) + d(q2, t1)) / 2
    follow = (d(q1, t1) + d(q2, t2)) / 2
    assert build("byol")(x1, x2)["loss"].item() == pytest.approx(byol, rel=1e-5)
    raft, prime = build("raft", alpha=0.7, beta=1.3), build("byol_prime", alpha=0.7, beta=1.3)
    assert raft(x1, x2)["loss"].item() == pytest.approx(0.7 * d(q1, q2) - 1.3 * follow, rel=1e-4)
    assert prime(x1, x2)["loss"].item() == pytest.approx(0.7 * d(q1, q2) + 1.3 * follow, rel=1e-5)
    assert byol <= 2 * build("byol_prime")(x1, x2)["loss"].item()  # the bound that the paper studies


@pytest.mark.parametrize("seed", range(20))
def test_byol_is_bounded_by_twice_byol_prime_term_by_term(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q1, q2, t1, t2 = (normalize(torch.randn(32, 6, generator=generator)) for _ in range(4))
    assert squared_distance(q1, t2) <= 2 * (squared_distance(q1, q2) + squared_distance(q2, t2))
    assert squared_distance(q2, t1) <= 2 * (squared_distance(q1, q2) + squared_distance(q1, t1))


def in_numpy(*tensors: Tensor) -> list[Any]:
    return [tensor.detach().double().numpy() for tensor in tensors]


@pytest.mark.parametrize("seed", range(3))
def test_moco_v3s_loss_is_its_papers(seed: int) -> None:
    """Algorithm 1 of arXiv 2104.02057, a softmax over keys at a time."""
    method = build("moco_v3", temperature=0.3)
    x1, x2 = views(seed=seed)
    predictor, teacher = method.get_submodule("predictor"), method.get_submodule("teacher")
    q1, q2, k1, k2 = in_numpy(predictor(method.embed(x1)), predictor(method.embed(x2)), teacher(x1), teacher(x2))
    total = 0.0
    for q, k in ((q1, k2), (q2, k1)):
        q, k = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (q, k))
        for i in range(len(q)):
            scores = [math.exp(float(q[i] @ key) / 0.3) for key in k]
            total -= 2 * 0.3 * math.log(scores[i] / sum(scores)) / len(q)
    assert method(x1, x2)["loss"].item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_barlow_twins_loss_is_its_papers(seed: int) -> None:
    """Equations 1 and 2 of arXiv 2103.03230, a pair of dimensions at a time."""
    method = build("barlow_twins", projector_out=5, off_diagonal=0.1, scale=0.5)
    x1, x2 = views(seed=seed)
    z1, z2 = ((z - z.mean(0)) / z.std(0) for z in in_numpy(method.embed(x1), method.embed(x2)))
    total = 0.0
    for i in range(5):
        for j in range(5):
            c = (z1[:, i] * z2[:, j]).mean()
            total += (1 - c) ** 2 if i == j else 0.1 * c**2
    assert method(x1, x2)["loss"].item() == pytest.approx(0.5 * total, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_vicregs_loss_is_its_papers(seed: int) -> None:
    """Equations 1 to 6 of arXiv 2105.04906, with numpy's covariance; means where the authors' code has them."""
    method = build("vicreg", projector_out=5, invariance=3.0, variance=2.0, covariance=0.7)
    x1, x2 = views(seed=seed)
    z1, z2 = in_numpy(method.embed(x1), method.embed(x2))
    total = 3.0 * ((z1 - z2) ** 2).mean()
    for z in (z1, z2):
        c = np.cov(z, rowvar=False)
        total += 2.0 * np.maximum(0, 1 - np.sqrt(np.diag(c) + 1e-4)).mean() / 2
        total += 0.7 * sum(c[i, j] ** 2 for i in range(5) for j in range(5) if i != j) / 5
    assert method(x1, x2)["loss"].item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_dinos_loss_and_centre_are_its_papers(seed: int) -> None:
    """Algorithm 1 of arXiv 2104.14294, twice in a row: the centre moves after the first loss."""
    method = build("dino", prototypes=7)
    x1, x2 = views(seed=seed)
    prototypes, teacher = method.get_submodule("prototypes"), method.get_submodule("teacher")
    s1, s2, t1, t2 = in_numpy(prototypes(method.embed(x1)), prototypes(method.embed(x2)), teacher(x1), teacher(x2))
    assert np.abs(s1).max() <= 1 + 1e-6  # cosines
    centre = np.zeros(7)
    for _ in range(2):
        total = 0.0
        for t, s in ((t1, s2), (t2, s1)):
            p, q = np.exp((t - centre) / 0.04), np.exp(s / 0.1)
            p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
            total -= (p * np.log(q)).sum(axis=1).mean() / 2
        assert method(x1, x2)["loss"].item() == pytest.approx(total, rel=1e-3)
        centre = 0.9 * centre + 0.1 * np.concatenate([t1, t2]).mean(axis=0)
    np.testing.assert_allclose(method.get_buffer("center").numpy(), centre, atol=1e-5)


def test_dino_with_small_crops_compares_both_teacher_outputs_with_every_other_view() -> None:
    """The authors' DINOLoss: all pairs of a global view and another one, averaged."""
    method = build("dino", head="dino", teacher_temperature=0.07)
    given = crops()
    unit_prototypes = normalize(method.get_submodule("prototypes").get_parameter("weight")).T
    s = [normalize(method.embed(x)) @ unit_prototypes / 0.1 for x in given]
    t = [
        (normalize(method.get_submodule("teacher.projector.0")(method.get_submodule("teacher.backbone")(x))))
        for x in given[:2]
    ]
    own = normalize(method.get_submodule("teacher.projector.1").get_parameter("weight")).T
    p = [(each @ own / 0.07).softmax(dim=1) for each in t]
    terms = [-(p[i] * s[j].log_softmax(dim=1)).sum(dim=1).mean() for i in (0, 1) for j in range(4) if i != j]
    assert len(terms) == 6
    assert method(*given)["loss"].item() == pytest.approx(sum(term.item() for term in terms) / 6, rel=1e-5)


def test_dinos_temperature_rises_and_its_prototypes_are_frozen_as_long_as_asked() -> None:
    method = build("dino", teacher_temperature=0.07, temperature_warmup=0.5, freeze_prototypes=0.25)
    told = []
    for step in range(8):
        method.before_step(step / 8)
        told.append(vars(method)["temperature"])
        method.zero_grad(set_to_none=True)
        method(*views())["loss"].backward()
        frozen = method.get_submodule("prototypes").get_parameter("weight").grad is None
        assert frozen == (step < 2)
    assert told == pytest.approx([0.04, 0.0475, 0.055, 0.0625, 0.07, 0.07, 0.07, 0.07])


def test_dinos_head_is_its_papers() -> None:
    layers = [*heads.dino(30, 400, 50)]
    assert [type(layer) for layer in layers] == [nn.Linear, nn.GELU, nn.Linear, nn.GELU, nn.Linear]
    for layer in layers[::2]:
        assert isinstance(layer, nn.Linear)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05) and not layer.bias.any()


@pytest.mark.parametrize("seed", range(3))
def test_swavs_loss_is_its_papers(seed: int) -> None:
    """Listing 1 of the paper, in numpy: codes of the first two views, predicted from every other view."""
    method = build("swav", prototypes=6, projector_out=5)
    given = [view + seed for view in crops()]
    c = unit(in_numpy(method.get_submodule("prototypes").get_parameter("weight"))[0])
    scores = [unit(z) @ c.T for z in in_numpy(*(method.embed(x) for x in given))]

    def codes(scores: Any) -> Any:
        q = np.exp(scores / 0.05).T  # [K, B]
        q /= q.sum()
        k, b = q.shape
        for _ in range(3):
            q = q / (k * q.sum(axis=1, keepdims=True))
            q = q / (b * q.sum(axis=0, keepdims=True))
        return (q / q.sum(axis=0, keepdims=True)).T

    def log_softmax(x: Any) -> Any:
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    terms = [
        -(codes(scores[i]) * log_softmax(scores[j] / 0.1)).sum(axis=1).mean()
        for i in (0, 1)
        for j in range(4)
        if i != j
    ]
    assert method(*given)["loss"].item() == pytest.approx(np.mean(terms), rel=1e-4)


def test_swavs_assignments_are_distributions_that_use_prototypes_equally() -> None:
    method = build("swav", iterations=50)
    q = method.assign(torch.rand(64, 8, generator=torch.Generator().manual_seed(0)) / 5)  # type: ignore[operator]
    torch.testing.assert_close(q.sum(dim=1), torch.ones(64))
    torch.testing.assert_close(q.sum(dim=0), torch.full((8,), 8.0), rtol=1e-2, atol=0)


def test_swavs_queue_holds_the_newest_embeddings_of_both_views_and_is_used_when_it_is_due() -> None:
    method = build("swav", queue=40, queue_from=0.5)
    batches = [views(seed=seed) for seed in range(3)]
    losses = []
    for number, batch in enumerate(batches):
        method.before_step(number / 4)
        losses.append(method(*batch)["loss"].item())
    queue = method.get_buffer("queue")
    fresh = build("swav")  # in train mode, as then: batch statistics
    for view in (0, 1):
        newest = torch.cat([normalize(fresh.embed(batch[view])) for batch in reversed(batches)])[:40]
        torch.testing.assert_close(queue[view], newest)
    without = build("swav")
    plain = [without(*batch)["loss"].item() for batch in batches]
    assert losses[:2] == pytest.approx(plain[:2]) and losses[2] != pytest.approx(plain[2], rel=1e-3)


def test_dinos_teacher_has_prototypes_of_its_own_that_follow() -> None:
    method = build("dino", tau=0.9, tau_schedule="constant")
    before = method.get_parameter("teacher.projector.1.weight").clone()
    with torch.no_grad():
        method.get_parameter("prototypes.weight").add_(1.0)
    method.after_step(0.0)
    torch.testing.assert_close(method.get_parameter("teacher.projector.1.weight"), before + 0.1)


def test_simsiam_stops_the_gradient_at_the_target() -> None:
    method = build("simsiam")
    x1, x2 = views()
    method(x1, x2)["loss"].backward()
    actual = [p.grad.clone() for p in method.backbone.parameters() if p.grad is not None]
    method.zero_grad()
    projector, predictor = method.projector, method.get_submodule("predictor")
    with torch.no_grad():  # targets as constants, from networks of the same weights
        z1, z2 = projector(method.backbone(x1)), projector(method.backbone(x2))
    p1, p2 = predictor(projector(method.backbone(x1))), predictor(projector(method.backbone(x2)))
    cos = nn.CosineSimilarity(dim=1)
    (-(cos(p1, z2).mean() + cos(p2, z1).mean()) / 2).backward()
    for got, p in zip(actual, method.backbone.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(got, p.grad, rtol=1e-4, atol=1e-6)


def test_simsiam_keeps_its_predictors_rate_constant_when_asked() -> None:
    for constant in (True, False):
        encoder, predictor = build("simsiam", predictor_constant_lr=constant).param_groups()
        assert not encoder.get("constant_lr")
        assert predictor["constant_lr"] == constant


def test_only_the_supervised_baseline_sees_labels() -> None:
    assert [name for name, cls in METHODS.items() if cls.uses_labels] == ["supervised"]


def test_raft_and_byol_prime_of_mirrored_predictors_differ_by_four_beta() -> None:
    x1, x2 = views()
    raft, prime = build("raft", beta=1.5), build("byol_prime", beta=1.5)
    assert isinstance(raft, RAFT)
    last = [m for m in prime.get_submodule("predictor").modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        for p in last.parameters():
            p.neg_()
    assert raft(x1, x2)["loss"].item() == pytest.approx(prime(x1, x2)["loss"].item() - 4 * 1.5, abs=1e-5)


def test_moco_v3_trains_all_of_a_transformer_but_the_frozen_projection_of_patches() -> None:
    cls = METHODS["moco_v3"]
    network: Any = timm.create_model("test_vit", img_size=16, patch_size=4, num_classes=0)
    network.recreate = None
    method = cls(network, cls.Config.model_validate({"freeze_patch_embed": True}))
    method(torch.randn(4, 3, 16, 16), torch.randn(4, 3, 16, 16))["loss"].backward()
    trained = {id(p) for group in method.param_groups() for p in group["params"]}
    frozen = {name for name, p in network.named_parameters() if id(p) not in trained}
    assert frozen == {"patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert all((p.grad is None) == (name in frozen) for name, p in network.named_parameters())


# The papers' losses and what they keep: DirectPred, MoCo v2, NNCLR, LeJEPA, W-MSE


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def info_nce(query: Any, others: Any, right: Any, temperature: float) -> float:
    """Mean of -log softmax, a query at a time; right: row of `others` that is each query's."""
    total = 0.0
    for i, q in enumerate(query):
        scores = np.exp(others[i] @ q / temperature)
        total -= math.log(scores[right[i]] / scores.sum()) / len(query)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_directpreds_loss_and_predictor_are_its_papers(seed: int) -> None:
    """The predictor of a matrix square root, which needs no eigenvectors, after two steps."""
    method = build("directpred", projector_out=5, epsilon=0.2)
    x1, x2 = views(seed=seed)
    teacher = method.get_submodule("teacher")
    z1, z2, t1, t2 = in_numpy(method.embed(x1), method.embed(x2), teacher(x1), teacher(x2))
    correlation, w = np.zeros((5, 5)), np.eye(5)
    for _ in range(2):
        expected = 0.0
        for z, t in ((z1, t2), (z2, t1)):
            expected += ((unit(z @ w) - unit(t)) ** 2).sum(axis=1).mean() / 2
        assert method(x1, x2)["loss"].item() == pytest.approx(expected, rel=1e-4)
        method.after_step(1.0)  # the teacher stays where it is
        correlation = 0.3 * correlation + 0.7 * np.mean([np.outer(z, z) for z in (*z1, *z2)], axis=0)
        w = np.real(sqrtm(correlation / np.linalg.norm(correlation, 2))) + 0.2 * np.eye(5)
        np.testing.assert_allclose(method.get_buffer("predictor").numpy(), w, atol=2e-3)


def test_directpreds_predictor_is_not_trained() -> None:
    assert not any("predictor" in name for name, _ in build("directpred").named_parameters())


@pytest.mark.parametrize("seed", range(3))
def test_moco_v2s_loss_and_queue_are_its_papers(seed: int) -> None:
    method = build("moco_v2", queue=40, temperature=0.3)
    x1, x2 = views(seed=seed)
    teacher = method.get_submodule("teacher")
    q1, q2, k1, k2 = map(unit, in_numpy(method.embed(x1), method.embed(x2), teacher(x1), teacher(x2)))
    (queue,) = in_numpy(method.get_buffer("queue"))
    for _ in range(2):
        expected = 0.0
        for q, k in ((q1, k2), (q2, k1)):
            expected += info_nce(q, [np.vstack([key, queue]) for key in k], [0] * 16, 0.3) / 2
        assert method(x1, x2)["loss"].item() == pytest.approx(expected, rel=1e-4)
        queue = np.vstack([k1, k2, queue])[:40]
        np.testing.assert_allclose(method.get_buffer("queue").numpy(), queue, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_nnclrs_loss_and_support_set_are_its_papers(seed: int) -> None:
    method = build("nnclr", support=40, temperature=0.3)
    x1, x2 = views(seed=seed)
    predictor = method.get_submodule("predictor")
    z1, z2 = method.embed(x1), method.embed(x2)
    p1, p2, z1, z2 = map(unit, in_numpy(predictor(z1), predictor(z2), z1, z2))
    (support,) = in_numpy(method.get_buffer("support"))
    for _ in range(2):
        expected = 0.0
        for z, p in ((z1, p2), (z2, p1)):
            nearest = [support[((support - each) ** 2).sum(axis=1).argmin()] for each in z]
            expected += info_nce(nearest, [p] * 16, range(16), 0.3) / 2
        assert method(x1, x2)["loss"].item() == pytest.approx(expected, rel=1e-4)
        support = np.vstack([z1, support])[:40]  # z1's neighbours are themselves in the second round
        np.testing.assert_allclose(method.get_buffer("support").numpy(), support, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_lejepas_loss_is_its_papers(seed: int) -> None:
    """Empirical characteristic functions in complex numbers, over both signs of t, a direction at a time."""
    method = build("lejepa", projector_out=5, slices=3, sigreg=0.3)
    x1, x2 = views(seed=seed)
    z1, z2, directions = in_numpy(method.embed(x1), method.embed(x2), method.get_buffer("directions"))
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, rtol=1e-6)
    t = np.linspace(-3, 3, 33)
    statistics = []
    for z in (z1, z2):
        for a in directions.T:
            ecf = np.exp(1j * np.outer(z @ a, t)).mean(axis=0)
            statistics.append(16 * trapezoid(abs(ecf - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2), t))
    mean = (z1 + z2) / 2
    agreement = np.mean([(z1 - mean) ** 2, (z2 - mean) ** 2])
    assert method(x1, x2)["loss"].item() == pytest.approx(0.3 * np.mean(statistics) + 0.7 * agreement, rel=1e-4)


def test_lejepas_directions_are_others_at_every_step_and_the_same_for_the_same_step() -> None:
    method, again = build("lejepa"), build("lejepa")
    drawn = []
    for step in range(4):
        drawn.append(method.get_buffer("directions").clone())
        method.after_step(step / 100_000)
    assert not any(torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    torch.manual_seed(step)
    again.after_step(step / 100_000)
    assert torch.equal(again.get_buffer("directions"), method.get_buffer("directions"))


def whitened(z: Any) -> Any:
    """By orthogonalising the columns one after another, which is what Cholesky's factor does: no covariance is made."""
    q, r = np.linalg.qr(z - z.mean(axis=0))
    return math.sqrt(len(z) - 1) * q * np.sign(np.diag(r))


@pytest.mark.parametrize("seed", range(3))
def test_wmses_loss_is_its_papers(seed: int) -> None:
    """Of 20 images in two parts, and in two that begin 4 images later."""
    method = build("wmse", projector_out=5, whitening_size=8, whitening_iterations=2)
    x1, x2 = views(20, seed=seed)
    z1, z2 = in_numpy(method.embed(x1), method.embed(x2))
    total = 0.0
    for part in (range(10), range(10, 20), [*range(16, 20), *range(6)], range(6, 16)):
        w1, w2 = (unit(whitened(z[list(part)])) for z in (z1, z2))
        total += ((w1 - w2) ** 2).sum() / 40
    assert method(x1, x2)["loss"].item() == pytest.approx(total, rel=1e-4)


def test_wmse_whitens_every_part_of_a_batch() -> None:
    (z,) = views(3 * 17 + 2)[:1]
    z = z.flatten(1)[:, :16].double() @ torch.randn(16, 16).double() + 3  # correlated, and not centred
    with in_float64():
        parts = whiten(z, 17).split([18, 18, 17])
    for part in parts:
        torch.testing.assert_close(part.mean(dim=0), torch.zeros(16).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(torch.cov(part.T), torch.eye(16).double(), atol=1e-9, rtol=0)


def test_wmse_gives_no_number_where_embeddings_cannot_be_whitened() -> None:
    """8 images have 7 directions; what rounding makes of the other 57 is no covariance's factor."""
    assert whiten(views(8)[0].flatten(1)[:, :64], 8).isnan().all()


@pytest.mark.parametrize(("settings", "value"), [({"whitening_size": 64}, 64), ({"projector_out": 128}, 128)])
def test_wmse_refuses_to_whiten_fewer_images_than_dimensions(settings: dict[str, int], value: int) -> None:
    with pytest.raises(ValidationError, match=f"above projector_out={value}"):
        METHODS["wmse"].Config(**settings)


@pytest.mark.parametrize("name", ["directpred", "moco_v2", "nnclr", "lejepa", "wmse", "swav"])
def test_gradients_are_finite_differences(name: str) -> None:
    """Along the gradient of one layer's weights."""
    method = build(name, **({"support": 8} if name == "nnclr" else {}))  # few: neighbours stay who they are
    weight = next(method.projector.parameters())
    x1, x2 = views()
    if name == "swav":  # assignments are targets: no gradient passes them
        fixed = torch.rand(16, method.get_submodule("prototypes").get_parameter("weight").shape[0]).softmax(dim=1)
        method.assign = lambda scores: fixed  # type: ignore[assignment]
    state = {key: value.clone() for key, value in method.state_dict().items()}
    method(x1, x2)["loss"].backward()
    assert weight.grad is not None
    direction = weight.grad / weight.grad.norm()
    losses = []
    for step in (2e-3, -2e-3):
        method.load_state_dict(state)
        with torch.no_grad():
            weight.add_(step * direction)
            losses.append(method(x1, x2)["loss"].item())
    assert (losses[0] - losses[1]) / 4e-3 == pytest.approx(weight.grad.norm().item(), rel=5e-2)
