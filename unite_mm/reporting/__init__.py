"""The HTML report: one file that shows what was run, how well it does and the samples themselves, without a network.

`runs` finds what there is to show of a run, `setup` its configuration, data and machine, `tables` its scores, `charts`
its curves and distributions, `page` puts all of it into one file. What is shown of samples comes from the plugin
(`unite_mm.contract.ReportViews`). No text of data is ever run as HTML: the template escapes everything, data for
scripts are JSON in which no tag can end, and the page itself forbids all scripts but those it was written with.
"""
