"""The kit: tested parts that most modality plugins need, so that a plugin holds only what its modality adds.

It is stable under the contract's versioning (`unite_mm.contract.CONTRACT_VERSION`): within one version of the contract
nothing here changes its name, its arguments or its result. A plugin may also import `unite_mm.contract`,
`unite_mm.errors`, `unite_mm.progress` and `unite_mm_schemas`; everything else of the core is internal.

- `arrays`: arrays of `.npz` files, checked as they are read.
- `cache`: prepared data sets that are made once and kept, and what names and describes their files.
- `choice`: some of many samples, spread evenly.
- `defaults`: batches of tensors, data sets in memory, a plain decoder.
- `download`: files from the network: mirrors, sizes, hashes; nothing but the right file is kept.
- `files`: files that are there whole or not at all.
- `intervals`: shares, means, medians and other quantiles as metrics with 95 % intervals.
- `layers`: the building blocks of the Generative Encoder, for tokenizers and decoders.
- `messages`: errors of libraries as one line of a message.
- `parallel`: functions of many items over processes or threads.
- `weights`: published weights of networks, from a file, a variable, torch's cache or a download.

Import the modules themselves; this package imports nothing, so that worker processes start quickly. Of them only
`defaults`, `layers` and `weights` load PyTorch.
"""
