"""Studies: variants of a run at equal compute, over several seeds, as one table; knows no modality.

`definition` reads a study and makes the words of its runs, `plan` counts what they cost, `execute` runs them in
processes of their own and continues what was stopped, `results` makes the table, `tables` and `curves` show it, `study`
does all of it. `shipped/` holds studies that come with the package.
"""
