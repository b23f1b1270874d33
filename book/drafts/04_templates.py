# %% [markdown]
# ### Other digits
#
# Ten classes are ten digits, and these ten may be peculiar. {numref}`fig-5b-others` has two other draws, and a task
# of a hundred classes, which asks for more than which of ten shapes it is.

# %% tags=["hide-input"]
others = collect("mnist-templates-others", mode)
glue("fig-5b-others-note", others.only(classes=100).note, display=False)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels of curves over eight filter banks, one for each set of digits."}, "figure": {"name": "fig-5b-others", "caption": "Smoothness of the filter banks after training on a hundred digits and on two other sets of ten. Dotted: before training. Records: {glue:text}`fig-5b-others-note`, of each."}}
variants = {"a hundred": others.only(classes=100), "other ten": others.only(label_seed=1), "another ten": others.only(label_seed=2)}
sets = {title: variant.banks() for title, variant in variants.items()}
panels_by_layer(sets, "normalized total variation", {title: v.banks(checkpoint=0) for title, v in variants.items()}, arm_field="strength", shared=True)

# %% tags=["hide-input"]
pd.concat({title: by_layer(of_set) for title, of_set in sets.items()}, axis=1)
