# %% [markdown]
# (verdict)=
# # What held
#
# The paper argues by eye: curves are "similar", filters "significantly" smoother. Here are its claims, one a row, with
# the least favourable of the numbers that decide each. The rules that turn numbers into verdicts were committed to this
# book's repository before the records that they judge were complete.
#
# To read a row: the threshold under the claim is ours, as the paper gives none. A claim usually has several *parts*,
# one for each variant, data set or baseline that it speaks of. The value is that of the part that looks worst for the
# claim, with its 95% interval over seeds, and *published* is what the same statistic gives for the curves printed in
# the paper, where it can be read off them. A claim links to all of its parts.

# %% tags=["parameters"]
mode = "full"

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import HTML, Markdown
from myst_nb import glue

from reproduction.analysis import claims
from reproduction.analysis.agreement import beside, compare, gaps, readable
from reproduction.analysis.evidence import collect, for_claims
from reproduction.experiments.studies import STUDIES
from reproduction.pages.figures import over_published
from reproduction.pages.ledger import QUICK, counts, in_detail, in_full, in_short

pd.set_option("display.max_colwidth", None)
made = [collect("cifar10", mode)] if mode == "quick" else []
notice = QUICK if mode == "quick" else ""
evidence = for_claims(mode)
findings = claims.findings(evidence)
ledger = claims.ledger(findings)
HTML(notice + in_full(ledger))

# %% tags=["remove-cell"]
glue("verdict-counts", counts(ledger), display=False)
glue("verdict-short", HTML(notice + in_short(ledger, "07_verdict.html")), display=False)

# %% [markdown]
# In short: {glue:text}`verdict-counts`. The verdicts rest on these records.

# %% tags=["hide-input"]
pd.DataFrame(
    {
        study: {
            "records": f"{len(found.records)} of {len(found.records) + len(found.missing)}",
            "what for": STUDIES[study].purpose,
        }
        for study, found in evidence.items()
    }
).T

# %% [markdown]
# ## How a verdict is made
#
# **What is compared.** Sensitivity enters as its logarithm, *s*, so that a difference in *s* is a ratio of
# sensitivities: a threshold of log 0.8, which is &minus;0.223, asks for a fifth less. Smoothness enters as normalized
# total variation averaged over kernels (a smoother filter has less of it), accuracy in percentage points. The
# *intraclass correlation* of claim 11, ICC(1) in the rows, is the share of the variance that the variants explain and the
# seeds do not: it is 1 if seeds do not matter. The *p* of claim 12 is the share of all orders of the variants that would
# give as high a correlation. The unit is the seed (for claim 13 a draw of the filters): a layer or an image more is no
# further evidence, another training is.
#
# **What is found of a part** is a value with a 95% interval over seeds, and it is held against the part's goal, the
# range of values that the threshold allows:
#
# | outcome | |
# |---|---|
# | held | the whole interval lies within the goal |
# | excluded | the whole interval lies outside, whatever the sign |
# | right sign | the interval lies across the goal's edge, or there is none, as with a single seed; the value itself is on the goal's side of no effect (0 for a difference, 1 for a ratio of spreads), or within the goal if that has two ends |
# | wrong sign | the same, but the value is on the other side |
# | not tested | there is no record, or there are too few seeds to compute it |
#
# **What becomes of the claim.** It *held* if every part did. It held *in part* if some part did, or if at least half of
# those tested have the right sign. It *did not hold* otherwise, and was *not tested* if no part was. Parts called
# controls can keep a claim from being held and do not hold it up; those listed are there to be read and decide nothing.
# A control may ask for the sign alone: claim 7's, at equal displacement, does, and is held by a small part of the whole
# difference.
#
# Some things follow. With one seed (with two in claims 5, 10 and 11, whose intervals take three), or with a variant or a
# data set missing, the best that a claim can get is *in part*: a reproduction that is not finished cannot say more. It
# can fail on one seed, though, if most of its parts point the wrong way, and a further seed may lift it again. And *in
# part* is a wide verdict. It covers a claim whose every part points the right way with too few seeds to be sure, and
# one that is plainly true for one data set and plainly false for the other; the parts tell which. Claim 15 gets it as
# soon as one variant of five differs, as its value is a count, and any count above 0 has the right sign. An interval from
# few seeds can also be too narrow by luck: in full mode Average-pool's five seeds agree on both of its correlations in
# claim 9, whose intervals thus have no width. Or it is too wide to say much, as three of ImageNet's four are in claim
# 5, which begin at 0 and end at 0.55 to 0.78. Lastly, where a published value misses the threshold itself (parts of
# claims 5 and 9, all of CIFAR-10's of claims 4 and 16), the curves printed in the paper do not show what is claimed, by
# this measure, even where our networks do, as in claim 4. (Claim 6 is an exception. Its control compares two smoothings
# that leave the filters as they are, with shared seeds here and, to all appearance, different ones in the paper. It is
# a maximum with no chance in it, so its interval has no width, and it passes by a hair.)
#
# Because *all* parts must hold, testing many of them makes a claim harder to hold, not easier, and no correction for
# their number is needed {cite:p}`berger1982`. For *in part* it is the other way round: of fourteen parts one may be
# held by chance, so read how many are. Where one statistic itself looks over layers or variants, its intervals are widened:
# so that they hold for all of them at once (claims 2 and 16), or, where four variants of five must differ, for two (claim
# 15 {cite:p}`benjamini2008`). Seventeen claims at 95% are still seventeen chances to be wrong.
#
# Claim 14 compares the verdicts on claims 1 to 5, not their parts. In full mode one verdict differs: all four parts of
# claim 4 are held by cosine distance and none by Euclidean distance, where every interval includes 0 and Strided-ReLU
# on CIFAR-10 has the wrong sign (0.06, &minus;0.16 to 0.28, in place of &minus;0.40). After training *s* of the last
# layer is the same by both to 0.07; before it the Euclidean one is lower by 0.42 to 0.53, so there is less to lose.
# Claim 5 is in part by both, though its parts differ: by Euclidean distance the untrained ImageNet variants differ by
# little more than seeds do, and three of their four ratios rise from 0.33, 0.49 and 0.34 to 1.23, 1.96 and 0.91; one of
# CIFAR-10's is excluded (0.85 in place of 0.59).
#
# ### What was known beforehand
#
# A rule made after the fact can be made to fit. So the claims and thresholds were written down before any record
# existed, and the rules were committed, in `claims.py`, before the records were complete. They are not blind,
# and the reader should know to what extent:
#
# - The published curves of Figures 3a, 3c, 3d, 4, 5 and 6b were known all along; of 3b, 6a, 6c and 7 only what the
#   paper's text says. So were a few networks trained in trials, some of them more briefly.
# - How each statistic is computed was decided when four records were there to be looked at: those of seed 0 on CIFAR-10
#   for Subsample, Max-pool, Average-pool and Strided.
# - After the rules were first committed (`c600230`) the ledger was run on those four, and three things were changed,
#   none of them a threshold: what is shown of a study without records, that a row shows only parts that count, and
#   that claim 15 has no interval without records.
# - When two seeds of `cifar10` were there and one of most others, a reviewer found three rules too lenient, and each was made
#   stricter: a variant counts in claim 15 only with an interval (any difference between two single runs had counted as one);
#   two seeds that agree on a rank correlation to the last digit give it no interval (it had been one of no width, in claims 9,
#   12 and 14); and p = 0.05 is not below 0.05 (claim 12).
# - Claim 13 had been held by the CIFAR-10 network alone. It now asks for the ImageNet network's filters too, whose record
#   was not made when this was changed.
# - At the same state of the records a third reading found faults in how statistics were computed, and they were mended.
#   A variant without records had counted as a variant without a difference (claim 15, which had nothing to judge yet). A
#   spread between variants that is no larger than seed noise makes had counted as none where it is the divisor, too (claims
#   5, 10 and 11; with the records there were, it is not). The interval of claim 11's correlation, of which there was
#   none yet, was too narrow. And a row showed a share of all layers as the worst part of claim 2. No verdict changed.
#   (After that the draws behind claim 13 were made, ImageNet's for the first time and CIFAR-10's again, by a faster
#   method: it holds.)
# - The noise in claim 7's control was to be as large as the deformations' change. In the first two records it was not:
#   a digit is mostly black and white, and clipping took off more than a quarter. They were thrown away and the control
#   was run again, not clipped.
# - When claim 15 had two of its seeds, its variants were counted by intervals that were not widened. Now they are: the
#   lower end of the count came down from 2 to 0, and no verdict changed.
#
# All intervals of claims 10 and 11, CIFAR-10's fourth seed and ImageNet's second and third came after the last of these
# changes. So did the rest of the seeds: CIFAR-10's fifth, the fourth and fifth of ImageNet and of random labels, and
# those made again ({ref}`recipe`), ImageNet's second and third and the third of random labels (three variants) and of their
# control; with them the verdicts on claims 3 and 4 went from *in part* to *held*, on claim 12 from *did not hold* to
# *in part* and on claim 14 from *held* to *in part*. That ImageNet has the paper's five seeds, and not the three once
# planned, was decided when the verdicts with three were known. With three, claim 4 would be *in part* and claim 14
# *held*; the other verdicts would be the same.
#
# They stand in `reproduction/analysis/claims.py`, `claim_statistics.py` and `verdicts.py`, and stood in `deformlib/claims.py`
# and `deformlib/quantities.py` until they moved there unchanged: `git log -p` of these files shows every change. Under other choices than the book's, and
# on networks trained in other ways, some of the claims are looked at in {doc}`09_choices`.
#
# ## Claim by claim
#
# *Ours* and *published* are the same statistic, of our records and of the curves read off the paper's plots. The
# published curves are means of five repetitions and go through as a single seed, so they have no interval here. In the
# names of parts *before* stands for the plain initialization and *calibrated* for the one with batch norm statistics
# computed on images, training images where there is a training; see {ref}`the protocol <protocol>`.

# %% tags=["hide-input"] mystnb={"markdown_format": "myst"}
Markdown(in_detail(findings))

# %% [markdown]
# ## Curve by curve
#
# A claim can hold although our curves are not the paper's, and fail although they nearly are. So here is, for each
# curve that could be read off the paper, how far ours is from it. How to read the columns:
#
# **difference** is the mean over layers of the distance between our curve (the mean over seeds) and theirs, in the unit
# of the figure. For sensitivity a difference of 0.1 is a tenth of the distance between two different images. Values
# were read off the plots to about 0.01, or 0.02 where another curve hid them: what is smaller is no difference.
#
# **skill** asks whether training brought us nearer. A curve after training could be near the published one merely
# because it was so from the start. So the difference is divided by the one that the same networks make before training,
# and the quotient taken from 1: 1 is a perfect match, 0 no better than not to train at all, and below 0 training led
# away. For figures of untrained networks there is nothing simpler to compare with, and no skill.
#
# **correlation** asks whether the variants differ from one another as the published ones do. The curves of all variants rise
# and fall together, so any of ours correlates with any of theirs. Here the mean over the variants is subtracted first,
# layer by layer, from ours and from theirs; what is left of a curve is what is its own. It takes two variants at least
# (which then both have the same correlation), and 8 to 19 layers make a rough estimate.
#
# **coverage** is the share of published values within a band around ours that allows for chance: two standard
# deviations over seeds, two over sets of images with deformations of their own, and the error of reading, their squares
# added. If nothing but chance stood between the paper and us, most values would be covered. Where few are, the networks
# differ: in something the paper does not say, in the data, or by a mistake of ours. With one seed the band lacks the
# scatter of seeds and is too narrow. (The untrained networks of Figures 3a and 4 were measured on one set of images,
# but for those of seed 0 on three, whose scatter stands for all.) Smoothness does not depend on images, so its band is
# narrower anyway.

# %% tags=["hide-input"]
points = beside(evidence if mode == "full" else {})
table, unmatched = compare(points)
readable(table)

# %% [markdown]
# In full mode the untrained CIFAR-10 networks (3c) are covered everywhere, by bands that are wide because untrained
# networks differ much from seed to seed. After training (3d) every published value lies above ours, and but for
# Subsample (3 layers of 13) only layer 0 is covered, the image, though training brought every curve nearer (skill of
# 0.43 to 0.64) and the variants differ from one another much as published (0.88 to 0.96). ({doc}`09_choices` asks whether
# this is the way they were trained.) Of Figure 3a Max-pool is covered (0.89) and Strided-ReLU is not (0.26); of Figure
# 4 most is (0.63 to 0.95). The trained filters (6b) come nearest for where they began (0.64 to 0.80) and are covered to
# a half at most. In Figure 5 the bands of C = 2 and 3 cover everything because training leapt with some seeds and not
# with others ({doc}`04_filter_smoothness`).
#
# And all of these curves at a glance, in {numref}`fig-7-published`.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six panels, one for each figure of the paper: our curves with bands, the published ones dashed."}, "figure": {"name": "fig-7-published", "caption": "Our curves over the published ones (dashed), figure by figure, with the band in which coverage is counted. How many seeds each has is in the table above."}}
# In quick mode the published curves alone.
over_published(points[points["reason"] == ""] if mode == "full" else points)

# %% [markdown]
# Figures 3b, 6a, 6c and 7 are not in the file that this table compares with. (The study that stands for the first two,
# `imagenet`, has networks half as wide and 50 classes of Tiny ImageNet at 64x64: there a difference would be expected.)
# In quick mode, whose networks see other images, nothing is compared.
#
# Published curves, or points of them, for which there is nothing of ours to compare with (in full mode none):

# %% tags=["hide-input"]
gaps(unmatched).set_index(["figure", "variant"])[["layers", "reason"]] if mode == "full" else None

# %% [markdown]
# The same for curves in another file, with the columns of `book/published/curves.csv`:
#
# ```bash
# python -m reproduction agreement FILE.csv
# ```
