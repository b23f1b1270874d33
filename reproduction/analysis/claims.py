"""The paper's claims, each with its threshold, its statistic and a verdict: the ledger.

`quantities` reads what the statistics are computed from, `claim_statistics` has the statistics,
`verdicts` the rule from intervals to verdicts, `intervals` the intervals. The thresholds are ours.

What is blind. The rules are committed before the records that they judge are complete; the git
history is the proof. They are not blind to all records: seed 0 of four variants of `cifar10`
(subsample, max-pool, average-pool, strided) was committed shortly before. The claims and thresholds
were written down before any record existed; how each statistic is computed was decided while those
four records were there to be looked at. After the first commit of the rules (c600230) the ledger
was run on them.

What changed since, never a threshold:

- A study without a usable record lists no missing variants, a row no longer shows a part that is
  merely listed, and claim 15 has no interval without records.
- When two seeds of `cifar10` and one of most other studies were there, three rules became stricter.
  In claim 15 a variant counts only with an interval (any difference of single seeds counted
  before). Two seeds that agree on a rank correlation to the digit give it no interval (they gave
  one of no width). And p must be below 0.05 in claim 12 (0.05 itself passed).
- Claim 13 asks for both architectures. It had read only the first, and ImageNet's had no record
  yet.
- The noise of claim 7's control was clipped in its first two records, to 0.72 of the norm that it
  was to have. They were thrown away and the control was run again.

A row of the ledger shows the least favourable part. `Finding.detail` shows all parts, beside the
same parts of the published curves, which go through the same statistics as a single seed."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import pandas as pd

from reproduction.analysis import claim_statistics as statistics
from reproduction.analysis.claim_statistics import TRAINED
from reproduction.analysis.evidence import Evidence, judged_studies
from reproduction.analysis.quantities import (
    JUDGED,
    Studies,
    judged_study,
    published_study,
)
from reproduction.analysis.verdicts import Part, verdict

WORST_FIRST = ("excluded", "wrong sign", "right sign", "held", "not tested")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and how it is judged.

    section, figure  where the paper makes it
    studies          whose records it rests on
    measured         the statistic, in words
    """

    claim: str
    section: str
    studies: tuple[str, ...]
    measured: str
    threshold: str
    statistic: Callable[[Studies], Iterator[Part]]
    figure: str


CLAIMS: dict[int, Claim] = {
    1: Claim(
        claim="At initialization pooling stabilizes",
        section="3.1",
        studies=("cifar10", "imagenet-init"),
        measured="difference in s at the last layer, every pooled against every unpooled variant",
        threshold="below log 0.8, each",
        statistic=statistics.pooling_at_initialization,
        figure="3a, 3c",
    ),
    2: Claim(
        claim="Sensitivity changes significantly over training, with pooling too",
        section="3.2",
        studies=TRAINED,
        measured=(
            "fraction of layers 3 to 12 (ImageNet: to 18) whose s changes by more than log "
            "1.1, simultaneous over layers"
        ),
        threshold=(
            "at least half of the layers outside ±log 1.1, every variant, against the "
            "plain and the calibrated initialization"
        ),
        statistic=statistics.change_over_training,
        figure="3",
    ),
    3: Claim(
        claim="Early layers become more sensitive",
        section="3.2",
        studies=TRAINED,
        measured="mean change in s of layers 1 to 4",
        threshold=(
            "above log 1.25, every variant, against the plain and the calibrated initialization"
        ),
        statistic=statistics.early_layers,
        figure="3",
    ),
    4: Claim(
        claim="Networks without pooling end more stable at the top than they began",
        section="3.3",
        studies=TRAINED,
        measured="change in s of the last layer, variants without pooling",
        threshold="below log 0.9, each",
        statistic=statistics.top_without_pooling,
        figure="3",
    ),
    5: Claim(
        claim="The variants converge to one pattern of stability",
        section="3.3",
        studies=TRAINED,
        measured=(
            "spread between variants after over before training, layers 3 to 12 (ImageNet: "
            "to 18), root mean square"
        ),
        threshold=(
            "below 0.5: of logarithms, absolute, from the calibrated initialization, and "
            "as largest difference"
        ),
        statistic=statistics.convergence,
        figure="3",
    ),
    6: Claim(
        claim="Smoother initial filters make stabler representations",
        section="4.2",
        studies=("imagenet-smoothed",),
        measured=(
            "difference in s at the last layer, sigma 0.3, 0.4, 0.5, 0.75, 1 each against "
            "the one before"
        ),
        threshold="all below 0; 0.1 equal to 0.2 to 1e-4",
        statistic=statistics.smoother_initial_filters,
        figure="4",
    ),
    7: Claim(
        claim="Stronger deformations lead to smoother filters",
        section="4.3",
        studies=("mnist-templates", "mnist-templates-noise"),
        measured=(
            "difference in total variation, mean over banks, each strength C against the one before"
        ),
        threshold="all below 0; in part if gone at matched displacement or under the noise control",
        statistic=statistics.stronger_deformations,
        figure="5",
    ),
    8: Claim(
        claim="Filters get smoother in training",
        section="4.4",
        studies=TRAINED,
        measured="change in total variation, mean over banks",
        threshold="below -0.05, every variant and data set",
        statistic=statistics.filters_get_smoother,
        figure="6a, 6b",
    ),
    9: Claim(
        claim="On ImageNet smoothness rises from layer to layer, on CIFAR-10 it falls",
        section="4.4",
        studies=TRAINED,
        measured=(
            "rank correlation of smoothness with depth from the second convolution on, "
            "with and without the last"
        ),
        threshold="above 0.5 on ImageNet, below -0.5 on CIFAR-10, every variant",
        statistic=statistics.smoothness_with_depth,
        figure="6a, 6b",
    ),
    10: Claim(
        claim="With random labels smoothness depends on the downsampling layer",
        section="5",
        studies=("cifar10-random-labels", "cifar10-subset"),
        measured="spread of total variation over variants, times the control's",
        threshold="at least 2",
        statistic=statistics.smoothness_under_random_labels,
        figure="6c",
    ),
    11: Claim(
        claim="With random labels sensitivity depends on the architecture and not on the seed",
        section="5",
        studies=("cifar10-random-labels", "cifar10-subset"),
        measured=(
            "spread of s over variants, layers 3 to 12, times the control's; ICC(1) of variants"
        ),
        threshold="spread at least 1.5 times the control's; intraclass correlation above 0.75",
        statistic=statistics.sensitivity_under_random_labels,
        figure="7",
    ),
    12: Claim(
        claim="Under random labels smoothness and stability go together",
        section="5",
        studies=("cifar10-random-labels",),
        measured=(
            "rank correlation over variants within layers, averaged over layers; whole "
            "variants permuted"
        ),
        threshold="above 0.7, and p below 0.05",
        statistic=statistics.smoothness_with_stability,
        figure="6c, 7",
    ),
    13: Claim(
        claim=(
            "Initial normalized total variation is 1.87 in every layer, its deviation "
            "0.035 in the first"
        ),
        section="4.1",
        studies=("initial-smoothness",),
        measured="mean and standard deviation over draws of the kernel average",
        threshold="1.87 within 0.005; first layer's deviation 0.035 within 0.002",
        statistic=statistics.initial_smoothness,
        figure="footnote 1",
    ),
    14: Claim(
        claim="Euclidean distance gives the same picture",
        section="2.1",
        studies=("cifar10", "imagenet-init", "imagenet"),
        measured=(
            "rank correlation of the two sensitivities over variant-layers; verdicts on "
            "claims 1 to 5 (Euclidean distances squared)"
        ),
        threshold="at least 0.9; the same verdicts",
        statistic=statistics.euclidean_alike,
        figure="3",
    ),
    15: Claim(
        claim="It is the joint distribution of images and labels",
        section="5",
        studies=("cifar10-subset", "cifar10-random-labels"),
        measured=(
            "variants in which real and random labels differ, in s of layers 7 to 12 and "
            "in total variation"
        ),
        threshold="both intervals exclude 0 in at least four variants",
        statistic=statistics.joint_distribution,
        figure="6, 7",
    ),
    16: Claim(
        claim="Under real labels smoothness converges across variants",
        section="4.4",
        studies=TRAINED,
        measured="largest difference in total variation between two variants, over banks",
        threshold="below 0.15",
        statistic=statistics.smoothness_converges,
        figure="6a, 6b",
    ),
    17: Claim(
        claim="The premise: networks with and without pooling perform equally well",
        section="3.3",
        studies=TRAINED,
        measured="difference in test accuracy, every pooled against every unpooled variant",
        threshold="within one point, each",
        statistic=statistics.equal_accuracy,
        figure="none",
    ),
}


@dataclass(frozen=True)
class Finding:
    """What a claim came to: its least favourable tested part, the verdict, and a table of all
    parts."""

    part: str
    value: float
    low: float
    high: float
    published: float
    verdict: str
    detail: pd.DataFrame


def judge(number: int, studies: Studies) -> Finding:
    """The finding on one claim. A study that is missing is not tested."""
    parts, theirs = _parts(number, studies), _published_values(number)
    detail = pd.DataFrame(parts, columns=Part._fields)
    detail["outcome"] = [part.outcome for part in parts]
    detail["published"] = [theirs.get((part.study, part.what), math.nan) for part in parts]

    def favour(k: int) -> tuple[int, float]:
        return WORST_FIRST.index(parts[k].outcome), parts[k].margin

    shown = min((k for k, part in enumerate(parts) if part.role != "listed"), key=favour)
    part = parts[shown]
    return Finding(
        part=f"{part.study}: {part.what}",
        value=part.value,
        low=part.low,
        high=part.high,
        published=detail["published"][shown],
        verdict=verdict(parts),
        detail=detail,
    )


def _parts(number: int, studies: Studies) -> list[Part]:
    claim = CLAIMS[number]
    nothing = {name: judged_study(JUDGED[name]) for name in claim.studies if name not in studies}
    return list(claim.statistic({**studies, **nothing}))


@cache
def _published_values(number: int) -> dict[tuple[str, str], float]:
    studies = {name: published_study(name) for name in CLAIMS[number].studies}
    return {(part.study, part.what): part.value for part in _parts(number, studies)}


def findings(evidence: Mapping[str, Evidence]) -> dict[int, Finding]:
    """What every claim came to, by number. A study that is missing is not tested."""
    studies = judged_studies(evidence)
    return {number: judge(number, studies) for number in CLAIMS}


def ledger(findings: Mapping[int, Finding]) -> pd.DataFrame:
    """One row a claim."""
    rows = {number: _row(CLAIMS[number], found) for number, found in findings.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("number")


def _row(claim: Claim, found: Finding) -> dict[str, object]:
    counting = found.detail[found.detail["role"] != "listed"]
    held = (counting["outcome"] == "held").sum()
    return {
        "claim": claim.claim,
        "section": claim.section,
        "statistic": claim.measured,
        "part": found.part,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "published": found.published,
        "held": f"{held} of {len(counting)}",
        "verdict": found.verdict,
        "threshold": claim.threshold,
        "figure": claim.figure,
    }
