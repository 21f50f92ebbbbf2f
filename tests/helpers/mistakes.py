"""Ways to get a plugin wrong: mutations of a good one. A mutator's docstring is what `plugins check` must say.

The good plugin is the toy modality under another name, in a distribution of its own; `mutate.__name__` becomes the
modality's name.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.repository import ROOT

TOY = ROOT / "tests" / "toy" / "unite_mm_toy"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@dataclass
class Copy:
    """A copy of the toy modality that is not yet written to disk.

    Attributes:
        name: of the modality, in the entry point and everywhere.
        package: importable package.
        files: text of each file by its name.
        entry: `name = value` of the entry point.
        others: further distributions that declare the same entry point.
    """

    name: str
    package: str
    files: dict[str, str]
    entry: tuple[str, str]
    others: tuple[str, ...] = ()

    @classmethod
    def make(cls, name: str) -> "Copy":
        package = f"mistaken_{name}"
        files = {path.name: path.read_text() for path in TOY.iterdir() if path.is_file()}
        for file, text in files.items():
            text = text.replace("unite_mm_toy", package).replace('"points"', f'"{name}"')
            files[file] = text.replace("name: points", f"name: {name}")
        made = cls(name, package, files, (name, f"{package}:modality.yaml"))
        # Pictures by matplotlib take longer than all the rest.
        start, end = (
            files["points.py"].index("        from matplotlib"),
            files["points.py"].index("    def save_pairs_picture"),
        )
        drawing = files["points.py"][start:end]
        made.change(
            "points.py", drawing, f'        import base64\n\n        path.write_bytes(base64.b64decode("{PNG}"))\n\n'
        )
        return made

    def change(self, file: str, old: str, new: str) -> None:
        assert old in self.files[file], f"{file} does not hold {old!r}"
        self.files[file] = self.files[file].replace(old, new)

    def code(self, old: str, new: str) -> None:
        self.change("points.py", old, new)

    def manifest(self, old: str, new: str) -> None:
        self.change("modality.yaml", old, new)

    def install(self, root: Path) -> "Copy":
        """Write the package, and the metadata of its distributions, into a folder of the path."""
        folder = root / self.package
        folder.mkdir(parents=True)
        for file, text in self.files.items():
            (folder / file).write_text(text)
        for distribution in (f"{self.package}_plugin", *self.others):
            info = root / f"{distribution}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[unite_mm.modalities]\n{self.entry[0]} = {self.entry[1]}\n")
        return self


# ------------------------------------------------------------------------------- what `plugins list` shows as broken


def misspelt_field(plugin: Copy) -> None:
    """implementaton: unknown key; did you mean 'implementation'?"""
    plugin.manifest("implementation:", "implementaton:")


def missing_field(plugin: Copy) -> None:
    """description: is missing"""
    plugin.manifest("description: Sets of one to three 2-D points on a ring of four clusters\n", "")


def no_yaml(plugin: Copy) -> None:
    """modality.yaml is not valid YAML"""
    plugin.files["modality.yaml"] = "name: ["


def moved_package(plugin: Copy) -> None:
    """the package 'moved_away' does not exist: its folder was moved or removed after the installation"""
    plugin.entry = (plugin.name, "moved_away:modality.yaml")


def misnamed_manifest(plugin: Copy) -> None:
    """holds no file 'modalty.yaml'"""
    plugin.entry = (plugin.name, f"{plugin.package}:modalty.yaml")


def entry_names_the_class(plugin: Copy) -> None:
    """is not of the form top_level_package:manifest.yaml"""
    plugin.entry = (plugin.name, f"{plugin.package}.points:Points")


def future_contract(plugin: Copy) -> None:
    """written for contract 99, but this unite-mm serves contracts up to 2: upgrade unite-mm"""
    plugin.manifest("contract: 2", "contract: 99")


def past_contract(plugin: Copy) -> None:
    """written for contract 0, but this unite-mm serves contract 2 and newer: upgrade the plugin"""
    plugin.manifest("contract: 2", "contract: 0")


def taken_name(plugin: Copy) -> None:
    """the name 'taken_name' is claimed by mistaken_taken_name_plugin 1.0 and squatter 1.0: uninstall all but one"""
    plugin.others = ("squatter",)


def other_name(plugin: Copy) -> None:
    """modality.yaml has the name 'rings', but its entry point 'other_name'"""
    plugin.manifest("name: other_name", "name: rings")


def no_identifier(plugin: Copy) -> None:
    """name: 'no-identifier' is no name: use lower-case letters, digits and _, beginning with a letter"""
    plugin.manifest("name: no_identifier", "name: no-identifier")
    plugin.name, plugin.entry = "no-identifier", ("no-identifier", plugin.entry[1])


def reserved_name(plugin: Copy) -> None:
    """name: 'train' is a section of every run's configuration: choose another name"""
    plugin.manifest("name: reserved_name", "name: train")
    plugin.name, plugin.entry = "train", ("train", plugin.entry[1])


def missing_preset(plugin: Copy) -> None:
    """modality.yaml: the preset 'toy' has no file 'tiny.yaml'"""
    plugin.manifest("file: toy.yaml", "file: tiny.yaml")


def no_suffix(plugin: Copy) -> None:
    """formats.0.suffix: string should match pattern"""
    plugin.manifest("suffix: .csv", "suffix: csv")


BROKEN: list[Callable[[Copy], None]] = [
    misspelt_field,
    missing_field,
    no_yaml,
    moved_package,
    misnamed_manifest,
    entry_names_the_class,
    future_contract,
    past_contract,
    taken_name,
    other_name,
    no_identifier,
    reserved_name,
    missing_preset,
    no_suffix,
]

# ------------------------------------------------------------ what is found without running any code of the plugin


def missing_module(plugin: Copy) -> None:
    """implementation: the module 'mistaken_missing_module.pionts' does not exist"""
    plugin.manifest(".points:Points", ".pionts:Points")


def missing_attribute(plugin: Copy) -> None:
    """implementation: mistaken_missing_attribute.points defines no 'Pionts' did you mean 'Points'?"""
    plugin.manifest(".points:Points", ".points:Pionts")


def preset_of_no_run(plugin: Copy) -> None:
    """trunk.widht: unknown key; did you mean 'width'? (preset preset_of_no_run/toy)"""
    plugin.change("toy.yaml", "trunk: {width:", "trunk: {widht:")


def listed_twice(plugin: Copy) -> None:
    """the source ring is listed twice"""
    plugin.manifest("sources:\n", "sources:\n  - {name: ring, description: again}\n")


def only_read(plugin: Copy) -> None:
    """no format is both written and read"""
    plugin.manifest("suffix: .csv,", "suffix: .csv, write: false,")


STATIC: list[Callable[[Copy], None]] = [missing_module, missing_attribute, preset_of_no_run, listed_twice, only_read]

# ----------------------------------------------------------------------------------------- what --imports finds


def import_error(plugin: Copy) -> None:
    """ModuleNotFoundError: No module named 'no_such_dependency'"""
    plugin.code("import csv\n", "import csv\nimport no_such_dependency\n")


def chained_import_error(plugin: Copy) -> None:
    """| ImportError: install the ring toolkit"""
    text = "try:\n    import no_such_dependency\nexcept ImportError as error:\n"
    text += "    raise ImportError('install the ring toolkit') from error\n"
    plugin.code("import csv\n", f"import csv\n{text}")


def exits_when_imported(plugin: Copy) -> None:
    """cannot be loaded: mistaken_exits_when_imported.points:Points: SystemExit: 3"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\nraise SystemExit(3)")


def loose_configuration(plugin: Copy) -> None:
    """accepts unknown keys give it model_config = ConfigDict(extra="forbid")"""
    plugin.change("config.py", "from unite_mm_schemas.base import Schema", "from pydantic import BaseModel as Schema")


def loose_section(plugin: Copy) -> None:
    """Inner, a section of the configuration, accepts unknown keys"""
    plugin.change(
        "config.py", "class PointsConfig", "class Inner(BaseModel):\n    shade: int = 1\n\n\nclass PointsConfig"
    )
    plugin.change("config.py", "import Field", "import BaseModel, Field")
    plugin.change(
        "config.py", '    """Latent channels."""\n', '    """Latent channels."""\n    inner: Inner = Inner()\n'
    )


def refused_preset(plugin: Copy) -> None:
    """modalities.refused_preset.config.chanels: unknown key; did you mean 'channels'?"""
    plugin.change("toy.yaml", "modality: {}", "modality: {chanels: 3}")


def no_modality(plugin: Copy) -> None:
    """.points:Points is not a subclass of unite_mm.contract.Modality"""
    plugin.code("class Points(Modality):", "class Points:")


def lacks_a_part(plugin: Copy) -> None:
    """Points lacks write"""
    plugin.code("def write(", "def wirte(")


def own_constructor(plugin: Copy) -> None:
    """Points() raised TypeError: Points.__init__() takes 2 positional arguments but 3 were given"""
    plugin.code("class Points(Modality):", "class Points(Modality):\n    def __init__(self, config):\n"
                "        super().__init__(config, 'rings')\n")  # fmt: skip


def own_name(plugin: Copy) -> None:
    """Points().name is 'rings', but the name it is given 'own_name'"""
    plugin.code("class Points(Modality):", "class Points(Modality):\n    def __init__(self, config, name):\n"
                "        super().__init__(config, 'rings')\n")  # fmt: skip


def wrong_signature(plugin: Copy) -> None:
    """Points.build_modules cannot be called with (self, statistics, width)"""
    plugin.code("statistics: Statistics, width: int) -> PointModules:", "statistics: Statistics) -> PointModules:")
    plugin.code("PointModules(self.config, statistics, width)", "PointModules(self.config, statistics, 32)")


def any_source(plugin: Copy) -> None:
    """open_data() accepts the source 'no-such-source-of-data'"""
    plugin.code('request.source != "ring"', "not request")


def wrong_card(plugin: Copy) -> None:
    """the card's counts do not add up"""
    plugin.code("read=total", "read=total + 1")


def wrong_size(plugin: Copy) -> None:
    """data.size('train') is 2001, but card.splits has 2000"""
    plugin.code("return len(self.parts[split][1])", "return len(self.parts[split][1]) + 1")


def targets_without_classes(plugin: Copy) -> None:
    """data.targets('train') names 3 classes and holds 3"""
    plugin.code('("right", "top", "left", "bottom"))\n\n\nclass', '("right", "top", "left"))\n\n\nclass')


def targets_of_another_split(plugin: Copy) -> None:
    """data.targets('train').values is int64 (200,) return int64 (2000,)"""
    plugin.code("self.parts[split][2], (", 'self.parts["test"][2], (')


def statistics_of_tensors(plugin: Copy) -> None:
    """statistics() cannot be written as JSON: Object of type Tensor is not JSON serializable"""
    plugin.code("[1:].tolist()}", "[1:]}")


def statistics_by_number(plugin: Copy) -> None:
    """statistics()['sizes'] changes when it is read back from JSON"""
    plugin.code('return {"counts"', 'return {"sizes": {1: 2}, "counts"')


def small_layout(plugin: Copy) -> None:
    """the batch uses 3 registers, but the layout has 2"""
    plugin.code("LatentLayout(MAX_POINTS, config.channels, torch.arange(MAX_POINTS))",
                "LatentLayout(2, config.channels, torch.arange(2))")  # fmt: skip


def float_positions(plugin: Copy) -> None:
    """layout.positions is float32 (3,), not integers (3,)"""
    plugin.code("config.channels, torch.arange(MAX_POINTS))", "config.channels, torch.arange(MAX_POINTS).float())")


def no_classes(plugin: Copy) -> None:
    """batch.condition is set, but the modules declare none"""
    plugin.code('ConditionSpec("classes", 4) if config.classes else ConditionSpec()', "ConditionSpec()")


def integer_mask(plugin: Copy) -> None:
    """batch.registers.mask is int64 (4, 3), not boolean"""
    plugin.code("return PointBatch(points, registers, first", "registers = Registers(registers.mask.long(), True)\n"
                "        return PointBatch(points, registers, first")  # fmt: skip


def wrong_padded(plugin: Copy) -> None:
    """batch.registers.padded is False, but the mask says otherwise"""
    plugin.code("return PointBatch(points, registers, first", "registers = Registers(registers.mask, False)\n"
                "        return PointBatch(points, registers, first")  # fmt: skip


def float_classes(plugin: Copy) -> None:
    """batch.condition is float32 (4,), not int64 (4,)"""
    plugin.code("first if self.config.classes else None", "first.float()")


def random_batches(plugin: Copy) -> None:
    """two batches of the same samples without a generator differ in points"""
    plugin.code("if generator is not None:\n            points", "if True:\n            points")
    plugin.code(
        "torch.randn(points.shape, generator=generator)\n        if self", "torch.randn(points.shape)\n        if self"
    )


def stays_behind(plugin: Copy) -> None:
    """batch.to(device) leaves points where it was"""
    plugin.code("PointBatch(self.points.to(device),", "PointBatch(self.points,")


def wrong_width(plugin: Copy) -> None:
    """the tokens are float32 (4, 3, 33), not (B, T, W) with B = 4 and W = 32"""
    plugin.code("self.embed = nn.Linear(2, width)", "self.embed = nn.Linear(2, width + 1)")


def flat_tokens(plugin: Copy) -> None:
    """the tokens are float32 (4, 32), not float (B, T, W)"""
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(self.embed(batch.points).sum(1),")


def positions_of_each_sample(plugin: Copy) -> None:
    """tokens.positions is int64 (4, 3), not integers (T,) with T = 3"""
    plugin.code("Tokens(self.embed(batch.points), positions,", "Tokens(self.embed(batch.points), "
                "positions.expand(len(batch.points), -1),")  # fmt: skip


def float_token_mask(plugin: Copy) -> None:
    """tokens.mask is float32 (4, 3), not boolean"""
    plugin.code("mask = batch.registers.mask if batch", "mask = batch.registers.mask.float() if batch")


def ignores_input(plugin: Copy) -> None:
    """different samples are the same: the tokenizer ignores its input"""
    plugin.code("self.embed(batch.points)", "self.embed(torch.zeros_like(batch.points))")


def one_object(plugin: Copy) -> None:
    """modules.samples() returns 1 objects for a batch of 4"""
    plugin.code("zip(output, registers.mask, strict=True)]", "zip(output, registers.mask, strict=True)][:1]")


def scalar_loss(plugin: Copy) -> None:
    """losses()['distance'] is float32 (), not float (B,) = (4,)"""
    plugin.code("error.sum(1) / batch.registers.mask.sum(1)", "error.mean()")


def infinite_loss(plugin: Copy) -> None:
    """losses()['distance'] is not finite for 4 of 4 samples"""
    plugin.code("error.sum(1) / batch.registers.mask.sum(1)", "error.sum(1) / 0")


def cut_loss(plugin: Copy) -> None:
    """no term of losses() is differentiable"""
    plugin.code("error = (output - batch.points)", "error = (output.detach() - batch.points)")


def raising_loss(plugin: Copy) -> None:
    """losses() raised KeyError: 'mass'"""
    plugin.code("error = (output", '{}["mass"]\n        error = (output')


def plain_loss(plugin: Copy) -> None:
    """losses()['distance'] is Tensor wrap it: LossTerm(values, weight)"""
    plugin.code("LossTerm(error.sum(1) / batch.registers.mask.sum(1), 4.0)", "error.sum(1)")


def own_start_weights(plugin: Copy) -> None:
    """two models of the same seed begin with different weights: ['tokenizer.embed.bias']"""
    plugin.code("self.embed = nn.Linear(2, width)", "self.embed = nn.Linear(2, width)\n"
                "        self.embed.bias.data.normal_(generator=SPARE)")  # fmt: skip
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\nSPARE = torch.Generator()")


def saved_loss_network(plugin: Copy) -> None:
    """parameters are frozen, first critic.weight: every checkpoint would hold them"""
    plugin.code(
        "self.tokenizer = Point", "self.critic = nn.Linear(2, 2).requires_grad_(False)\n        self.tokenizer = Point"
    )


def other_encoding(plugin: Copy) -> None:
    """encode_samples() gives other input tokens than data.batch() of the same samples"""
    plugin.code("row[: len(sample)] = sample", "row[: len(sample)] = 2 * sample")


def dropout(plugin: Copy) -> None:
    """decoder and losses give other values for the same latents"""
    plugin.code("= self.out(", "= nn.functional.dropout(self.out(")
    plugin.code("16, 100.0), mask)).float()", "16, 100.0), mask)), 0.5, self.training)")


def unmasked_tokens(plugin: Copy) -> None:
    """a sample gives another result in a batch than alone: tokenizing lets padding or other samples in"""
    plugin.code("mask = batch.registers.mask if batch.registers.padded else None", "mask = None")


def unmasked_decoder(plugin: Copy) -> None:
    """than alone: decoder or losses()['distance'] lets padding or other samples in"""
    plugin.code(
        "mask = registers.mask if registers.padded else None\n        points: Tensor = self.out",
        "mask = None\n        points: Tensor = self.out",
    )


def batch_norm(plugin: Copy) -> None:
    """than alone: decoder or losses()['distance'] lets padding or other samples in"""
    plugin.code("self.out = nn.Linear(32, 2)", "self.out = nn.Linear(32, 2)\n        self.norm = nn.BatchNorm1d(2)")
    plugin.code("= self.out(", "= self.norm(self.out(")
    plugin.code("16, 100.0), mask)).float()", "16, 100.0), mask)).transpose(1, 2)).transpose(1, 2)")


def loss_over_padding(plugin: Copy) -> None:
    """than alone: decoder or losses()['distance'] lets padding or other samples in"""
    plugin.code("error.sum(1) / batch.registers.mask.sum(1)", "error.mean(1)")


def ignores_latents(plugin: Copy) -> None:
    """the losses do not depend on the latents: no gradient goes through the decoder to the tokenizer"""
    plugin.code("self.up(latents)", "self.up(torch.zeros_like(latents))")


def cut_tokenizer(plugin: Copy) -> None:
    """no gradient reaches the tokenizer"""
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(self.embed(batch.points).detach(),")


def cut_decoder(plugin: Copy) -> None:
    """no gradient reaches the decoder"""
    plugin.code("= self.out(", "= latents[..., :2] if True else self.out(")


def idle_parameter(plugin: Copy) -> None:
    """1 parameters of the decoder take no part in any loss, first idle"""
    plugin.code(
        "self.out = nn.Linear(32, 2)", "self.out = nn.Linear(32, 2)\n        self.idle = nn.Parameter(torch.zeros(2))"
    )


def prior_of_its_own(plugin: Copy) -> None:
    """the prior draws something else from a generator of the same seed"""
    plugin.code("torch.multinomial(self.shares, 1, generator=generator)", "torch.multinomial(self.shares, 1)")


def prior_outside(plugin: Copy) -> None:
    """the prior leaves the layout: its mask is bool (4,), not (K,) = (3,)"""
    plugin.code("PriorSample(torch.arange(MAX_POINTS) <", "PriorSample(torch.arange(MAX_POINTS + 1) <")


def prior_of_numbers(plugin: Copy) -> None:
    """the mask of a prior draw is int64 (3,), not boolean"""
    plugin.code(
        "PriorSample(torch.arange(MAX_POINTS) < count,", "PriorSample((torch.arange(MAX_POINTS) < count).long(),"
    )


def empty_prior(plugin: Copy) -> None:
    """the prior draws a sample without registers"""
    plugin.code("generator=generator)) + 1", "generator=generator))")


def deaf_prior(plugin: Copy) -> None:
    """the prior drops the condition it is asked for"""
    plugin.code("if condition is None and self.condition", "if self.condition")


def coarse_files(plugin: Copy) -> None:
    """samples do not survive writing and reading as .csv: points differs"""
    plugin.code("sample.flatten().tolist() for", "sample.flatten().round().tolist() for")


def lost_sample(plugin: Copy) -> None:
    """.csv: 12 samples are written and 11 read"""
    plugin.code("for row in csv.reader(stream)]", "for row in csv.reader(stream)][1:]")


def unmatched_pairs(plugin: Copy) -> None:
    """read_pairs() gives 4 inputs and 3 reconstructions of 4"""
    plugin.code("    def save_picture(", "    def read_pairs(self, inputs, outputs):\n"
                "        return self.read(inputs), self.read(outputs)[1:]\n\n    def save_picture(")  # fmt: skip


def any_file(plugin: Copy) -> None:
    """write() to a file *.no-such-format is not refused"""
    plugin.code('path.suffix != ".csv"', "not path.suffix")


def no_picture(plugin: Copy) -> None:
    """save_picture() leaves no PNG file"""
    plugin.code("path.write_bytes(", "str(")


def metric_without_definition(plugin: Copy) -> None:
    """score_reconstruction(): Metric.definition is missing"""
    plugin.code("total=len(errors), definition=definition", "total=len(errors)")


def empty_definition(plugin: Copy) -> None:
    """score_generation(), metric 'on_ring': it has no definition or no title"""
    plugin.code('definition="points with radius within 0.25 of 1 / all points"', 'definition=""')


def unreported_metric(plugin: Copy) -> None:
    """the manifest lists the metric 'match', but score_reconstruction() does not report it"""
    plugin.manifest("metrics:\n", "metrics:\n  - {name: match, kind: reconstruction, definition: equal / all}\n")


LOADED: list[Callable[[Copy], None]] = [
    import_error,
    chained_import_error,
    exits_when_imported,
    loose_configuration,
    loose_section,
    refused_preset,
    no_modality,
    lacks_a_part,
    own_constructor,
    own_name,
    wrong_signature,
    any_source,
    wrong_card,
    wrong_size,
    statistics_of_tensors,
    statistics_by_number,
    small_layout,
    float_positions,
    no_classes,
    integer_mask,
    wrong_padded,
    float_classes,
    random_batches,
    stays_behind,
    wrong_width,
    flat_tokens,
    positions_of_each_sample,
    float_token_mask,
    ignores_input,
    one_object,
    scalar_loss,
    infinite_loss,
    cut_loss,
    raising_loss,
    plain_loss,
    own_start_weights,
    saved_loss_network,
    other_encoding,
    dropout,
    unmasked_tokens,
    unmasked_decoder,
    batch_norm,
    loss_over_padding,
    ignores_latents,
    cut_tokenizer,
    cut_decoder,
    idle_parameter,
    prior_of_its_own,
    prior_outside,
    prior_of_numbers,
    empty_prior,
    deaf_prior,
    coarse_files,
    lost_sample,
    unmatched_pairs,
    any_file,
    no_picture,
    metric_without_definition,
    empty_definition,
    unreported_metric,
]

# ------------------------------------------------------------------ what a few calls more than the usual ones show


def syntax_slip(plugin: Copy) -> None:
    """points.py, line 40: '(' was never closed: 'MAX_POINTS = (3' correct this line, or the one before it"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = (3")


def error_at_import(plugin: Copy) -> None:
    """integer division or modulo by zero correct what runs when a module of mistaken_error_at_import is imported"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3 // 0")


def samples_out_of_order(plugin: Copy) -> None:
    """data.samples() gives other samples for several indices than one by one"""
    plugin.code("for i in indices.tolist()]", "for i in sorted(indices.tolist())]")


def batch_out_of_order(plugin: Copy) -> None:
    """data.batch() gives its samples in another order than the indices"""
    plugin.code("points, counts, first = (part[indices]", "points, counts, first = (part[indices.sort().values]")


def batch_by_length(plugin: Copy) -> None:
    """data.batch() gives its samples in another order than the indices"""
    plugin.code("        points, counts, first = (part[indices]",
                "        indices = indices[self.parts[split][1][indices].argsort(descending=True)]\n"
                "        points, counts, first = (part[indices]")  # fmt: skip


def held_out_is_trained_on(plugin: Copy) -> None:
    """samples of 'validation' are in 'train' too: 0 is its 0"""
    plugin.code("        digest = hashlib",
                '        self.parts["validation"] = tuple(part[:200] for part in self.parts["train"])\n'
                "        digest = hashlib")  # fmt: skip


def drawn_with_replacement(plugin: Copy) -> None:
    """samples of 'test' are in 'train' too"""
    plugin.code("        digest = hashlib",
                "        picks = torch.randperm(2000, generator=torch.Generator().manual_seed(9))[:200]\n"
                '        self.parts["test"] = tuple(part[picks] for part in self.parts["train"])\n'
                "        digest = hashlib")  # fmt: skip


def tokenizer_dropout(plugin: Copy) -> None:
    """the tokenizer gives other tokens for the same batch"""
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(nn.functional.dropout(self.embed(batch.points), 0.3),")


def drawn_objects(plugin: Copy) -> None:
    """modules.samples() gives other objects for the same output"""
    plugin.code("[points[mask].cpu() for", "[points[mask].cpu() + torch.randn(1) for")


def objects_of_numpy_chance(plugin: Copy) -> None:
    """modules.samples() gives other objects for the same output"""
    plugin.code("import csv\n", "import csv\n\nimport numpy as np\n")
    plugin.code("[points[mask].cpu() for", "[points[mask].cpu() * float(np.random.rand()) for")


def unmasked_objects(plugin: Copy) -> None:
    """modules.samples() gives another object in a batch than alone: it lets padding or other samples in"""
    plugin.code("[points[mask].cpu() for", "[points.cpu() for")


def centred_objects(plugin: Copy) -> None:
    """modules.samples() gives another object in a batch than alone: it lets padding or other samples in"""
    plugin.code("[points[mask].cpu() for", "[points[mask].cpu() - output.mean((0, 1)) for")


def objects_out_of_order(plugin: Copy) -> None:
    """modules.samples() gives the samples in another order"""
    plugin.code("zip(output, registers.mask, strict=True)]", "zip(output, registers.mask, strict=True)][::-1]")


def too_few_parts(plugin: Copy) -> None:
    """a reconstruction's whole has the extent (1, 2), its input's (3, 2)"""
    plugin.code("[points[mask].cpu() for", "[points[mask][:1].cpu() for")


def one_part_for_all(plugin: Copy) -> None:
    """a reconstruction's whole has the extent (1, 2), its input's (3, 2)"""
    plugin.code("return points\n", "return points[:, :1]\n")
    plugin.code("[points[mask].cpu() for", "[points.cpu() for")


def seeded_decoder(plugin: Copy) -> None:
    """decoder() seeds or draws from torch's global random numbers"""
    plugin.code("        mask = registers.mask if registers.padded else None\n        points: Tensor",
                "        torch.manual_seed(0)\n"
                "        mask = registers.mask if registers.padded else None\n        points: Tensor")  # fmt: skip


def seeded_tokenizer_dropout(plugin: Copy) -> None:
    """tokenizer() seeds or draws from torch's global random numbers"""
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(nn.functional.dropout(self.embed(batch.points), 0.1),")
    plugin.code(
        "        mask = batch.registers.mask if", "        torch.manual_seed(1)\n        mask = batch.registers.mask if"
    )


def seeded_numpy(plugin: Copy) -> None:
    """losses() seeds or draws from numpy's global random numbers"""
    plugin.code("import csv\n", "import csv\n\nimport numpy as np\n")
    plugin.code("        error = (output", "        np.random.seed(0)\n        error = (output")


def seeded_modules(plugin: Copy) -> None:
    """build_modules() seeds torch's global random numbers: every run would begin with the same weights"""
    plugin.code(
        "        self.decoder = PointDecoder(", "        torch.manual_seed(0)\n        self.decoder = PointDecoder("
    )


def positions_on_the_cpu(plugin: Copy) -> None:
    """tokenizer() leaves positions on the CPU when its batch is elsewhere"""
    plugin.code(
        "torch.arange(batch.points.shape[1], device=batch.points.device)", "torch.arange(batch.points.shape[1])"
    )


def points_at_nothing(plugin: Copy) -> None:
    """trunk.pointer_bias is set, but no token has the position of a register"""
    plugin.code("positions = torch.arange(batch.", "positions = 10 + torch.arange(batch.")


def table_on_the_cpu(plugin: Copy) -> None:
    """decoder() mixes tensors of two devices"""
    plugin.code("torch.arange(latents.shape[1], device=latents.device)", "torch.arange(latents.shape[1])")


def index_on_the_cpu(plugin: Copy) -> None:
    """tokenizer() mixes tensors of two devices, in embedding"""
    plugin.code("self.embed = nn.Linear(2, width)", "self.embed = nn.Linear(2, width)\n"
                "        self.place = nn.Embedding(MAX_POINTS, width)")  # fmt: skip
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(self.embed(batch.points) + self.place(torch.arange("
                "batch.points.shape[1])),")  # fmt: skip


def weights_on_the_cpu(plugin: Copy) -> None:
    """losses() mixes tensors of two devices, in mul"""
    plugin.code("error.sum(1) / batch", "(error * torch.ones(error.shape[1])).sum(1) / batch")


def plain_constant(plugin: Copy) -> None:
    """losses() mixes tensors of two devices, in mul"""
    plugin.code(
        "        self.tokenizer = Point", "        self.scales = torch.ones(1, 1)\n        self.tokenizer = Point"
    )
    plugin.code("error.sum(1) / batch", "(error * self.scales).sum(1) / batch")


def plain_list(plugin: Copy) -> None:
    """that is no parameter of the modules: it would never be trained or saved"""
    plugin.code("self.out = nn.Linear(32, 2)", "self.out = nn.Linear(32, 2)\n        self.last = [nn.Linear(2, 2)]")
    plugin.code("= self.out(", "= self.last[0](self.out(")
    plugin.code("16, 100.0), mask)).float()", "16, 100.0), mask))).float()")


def plain_tensor(plugin: Copy) -> None:
    """the losses use a trainable tensor (1,) that is no parameter of the modules"""
    plugin.code("self.embed = nn.Linear(2, width)", "self.embed = nn.Linear(2, width)\n"
                "        self.gains = {'all': torch.ones(1, requires_grad=True)}")  # fmt: skip
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(self.embed(batch.points) * self.gains['all'],")


def classes_of_one_name(plugin: Copy) -> None:
    """ConditionSpec.names has 'left' twice"""
    plugin.code('ConditionSpec("classes", 4)', 'ConditionSpec("classes", 4, ("left", "up", "left", "down"))')


def units_of_classes(plugin: Copy) -> None:
    """ConditionSpec.units has 1 entries give one for each number, and `names` too"""
    plugin.code('ConditionSpec("classes", 4)', 'ConditionSpec("classes", 4, units=("m",))')


def too_few_conditioned(plugin: Copy) -> None:
    """modules.conditioned() returns 3 samples for 4 return a list of all samples it is given"""
    plugin.code("class PointTeacher(Teacher):", "    def conditioned(self, samples, condition):\n"
                "        return samples[1:]\n\n\nclass PointTeacher(Teacher):")  # fmt: skip


def conditioned_by_the_first(plugin: Copy) -> None:
    """modules.conditioned() gives a sample another condition, or another place, than alone"""
    plugin.code("class PointTeacher(Teacher):", "    def conditioned(self, samples, condition):\n"
                "        return [one + condition[0] for one in samples]\n\n\nclass PointTeacher(Teacher):")  # fmt: skip


def unheeded_size(plugin: Copy) -> None:
    """asked for 2 registers, the prior gives 1"""
    plugin.code("(request.size or fewest)", "1 + fewest")


def unheeded_fragment(plugin: Copy) -> None:
    """heed `request.fragment` in prior_for(): draw more than it takes"""
    plugin.code("request.fragment.registers + 1", "1")


def nothing_held(plugin: Copy) -> None:
    """the plugin holds registers that the samples do not use, or all or none of them"""
    plugin.code(
        "return Held(batch, batch.registers.mask)", "return Held(batch, torch.zeros_like(batch.registers.mask))"
    )


def held_at_random(plugin: Copy) -> None:
    """hold() holds other registers for equal generators"""
    plugin.code("return Fragment(points, len(points))", "return Fragment(points, 1)")
    plugin.code("max(fewest, request.fragment.registers + 1)", "MAX_POINTS")
    plugin.code("return Held(batch, batch.registers.mask)",
                "batch = self.encode_samples([torch.zeros(3, 2)] * len(priors), statistics)\n"
                "        return Held(batch, torch.eye(3).bool()[torch.randint(3, (len(priors),))])")  # fmt: skip


def sizes_beyond_the_layout(plugin: Copy) -> None:
    """modules.sizes is (1, 4), but the layout has 3 registers"""
    plugin.code("self.sizes = (1, self.layout.registers)", "self.sizes = (1, MAX_POINTS + 1)")


def options_without_defaults(plugin: Copy) -> None:
    """sampling_options() returns dict"""
    plugin.code("class Points(Modality):", "class Points(Modality):\n"
                "    def sampling_options(self):\n        return {'scale': 1}\n")  # fmt: skip


def forgotten_parts(plugin: Copy) -> None:
    """asked for 'class' alone, the prior returns"""
    plugin.code("if config.heights:\n            self.condition", "if True:\n            self.condition")
    plugin.code("if self.config.heights:", "if True:")
    plugin.code('left_open="dropped"', 'left_open="drawn"')
    plugin.code('heights.masked_fill(indices % 10 == 0, float("nan"))', "heights")
    plugin.code("return PriorSample(torch.arange(MAX_POINTS) < count, condition)",
                "full = torch.tensor([0.0, 0.5]) if condition is None else condition\n"
                "        return PriorSample(torch.arange(MAX_POINTS) < count, full)")  # fmt: skip


def second_format(plugin: Copy, suffix: str = ".txt") -> None:
    """A second format, written and read without mistakes."""
    plugin.manifest('points per line"}\n', f'points per line"}}\n  - {{suffix: {suffix}, description: text}}\n')
    plugin.code('path.suffix != ".csv"', f'path.suffix not in (".csv", "{suffix}")')


def rounded_files(plugin: Copy) -> None:
    """samples do not survive writing and reading as .csv: points differs"""
    plugin.code("sample.flatten().tolist() for", "[round(x, 3) for x in sample.flatten().tolist()] for")


def half_precision_files(plugin: Copy) -> None:
    """samples do not survive writing and reading as .csv: points differs"""
    plugin.code("sample.flatten().tolist() for", "sample.flatten().half().tolist() for")


def rounded_second_format(plugin: Copy) -> None:
    """samples do not survive writing and reading as .txt: points differs"""
    second_format(plugin)
    plugin.code("writerows(sample.flatten().tolist() for", "writerows([round(x, 1 if path.suffix == '.txt' else 9) "
                "for x in sample.flatten().tolist()] for")  # fmt: skip


def inexact_format_turns(plugin: Copy) -> None:
    """.txt: what was read, written once more, reads differently"""
    second_format(plugin)
    plugin.manifest(".txt, description: text", ".txt, description: text, exact: false")
    plugin.code(
        "for row in csv.reader(stream)]", "for row in csv.reader(stream)][:: -1 if path.suffix == '.txt' else 1]"
    )


def sorted_by_name(plugin: Copy) -> None:
    """samples come back from .csv in another order keep their order: of numbered names 10 sorts before 9"""
    plugin.code("(sample.flatten().tolist() for sample in samples)",
                "s.flatten().tolist() for _, s in sorted((str(i), s) for i, s in enumerate(samples)))")  # fmt: skip
    plugin.code("csv.writer(stream).writerows", "csv.writer(stream).writerows(")


def appends(plugin: Copy) -> None:
    """.csv: 3 samples written over 12 are read as 15"""
    plugin.code('path.open("w", newline="")', 'path.open("a", newline="")')


VIEWS = """
    def report_views(self):
        from pathlib import Path

        from unite_mm.contract import ReportViews
        from unite_mm_schemas.views import Gallery, GalleryItem, Tag

        class Views(ReportViews):
            renderer = "points"
            scripts = (Path(__file__),)

            def samples(self, samples, reference, progress, workers=0):
                items = tuple(GalleryItem(title="points", tags=("odd",), content=one.tolist()) for one in samples)
                tags = (Tag(name="odd", title="odd"),)
                return Gallery(kind="samples", title="Points", total=len(samples), tags=tags, items=items)

        return Views()

"""


def shown_in_the_report(plugin: Copy, old: str, new: str) -> None:
    """Give the plugin views for the report, with a mistake in them."""
    assert old in VIEWS
    plugin.code("    def save_picture(self", f"{VIEWS.replace(old, new).lstrip(chr(10))}    def save_picture(self")


def tag_of_no_kind(plugin: Copy) -> None:
    """ReportViews.samples(): items have the tag 'odd', which Gallery.tags lacks"""
    shown_in_the_report(plugin, 'tags = (Tag(name="odd", title="odd"),)', "tags = ()")


def script_left_behind(plugin: Copy) -> None:
    """the report needs points.js, which is not at"""
    shown_in_the_report(plugin, "(Path(__file__),)", '(Path(__file__).with_name("points.js"),)')


def views_of_json_alone(plugin: Copy) -> None:
    """ReportViews.samples()"""
    shown_in_the_report(plugin, "content=one.tolist()", "content=one")


def percentage(plugin: Copy) -> None:
    """score_generation(), metric 'on_ring': a share of"""
    plugin.code("value=near / len(radius)", "value=101 + 100 * near / len(radius)")


def other_share(plugin: Copy) -> None:
    """score_generation(), metric 'on_ring': its value is 0.75, its counts"""
    plugin.code("value=near / len(radius)", "value=0.75")


def share_without_counts(plugin: Copy) -> None:
    """score_generation(), metric 'on_ring': a share of 250, outside [0, 1]"""
    plugin.code("value=near / len(radius),\n            count=near,\n", "value=250.0,\n")


def metric_that_never_comes(plugin: Copy) -> None:
    """the manifest lists the metric 'error', but score_reconstruction() never has a value for it"""
    plugin.code("value=float(errors.mean())", "value=None")


def generation_metric_that_never_comes(plugin: Copy) -> None:
    """the manifest lists the metric 'on_ring', but score_generation() never has a value for it"""
    plugin.manifest("metrics:\n", "metrics:\n  - {name: on_ring, kind: generation, definition: near / all}\n")
    plugin.code("value=near / len(radius),\n            count=near,\n", "value=None,\n")


def unlisted_in_large_data(plugin: Copy) -> None:
    """the manifest lists the metric 'spread', but score_generation() does not report it"""
    plugin.manifest("metrics:\n", "metrics:\n  - {name: spread, kind: generation, definition: deviation}\n")
    plugin.change("config.py", "samples: int = Field(2000", "samples: int = Field(8000")


def division_in_a_metric(plugin: Copy) -> None:
    """score_reconstruction() raised ZeroDivisionError: division by zero report value=None where"""
    plugin.code("        errors = torch.stack(", "        _ = 1 / 0\n        errors = torch.stack(")


def state_in_a_global(plugin: Copy) -> None:
    """a model that another process loads, without opening any data, cannot be used: KeyError: 'scale'"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\nFOUND = {}")
    plugin.code("        self.config = config\n", '        self.config = config\n        FOUND["scale"] = 2.0\n')
    plugin.code("self.embed(batch.points)", 'self.embed(batch.points) * FOUND["scale"]')


def default_in_a_global(plugin: Copy) -> None:
    """a model that another process loads, without opening any data, differs: ['latents']"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\nFOUND = {}")
    plugin.code("        self.config = config\n", '        self.config = config\n        FOUND["scale"] = 2.0\n')
    plugin.code("self.embed(batch.points)", 'self.embed(batch.points) * FOUND.get("scale", 1.0)')


def split_by_hash(plugin: Copy) -> None:
    """data that another process opens differs: ['card.split_hash']"""
    plugin.code("Generator().manual_seed(number))", "Generator().manual_seed(hash(split) % 1000))")


def classes_of_a_set(plugin: Copy) -> None:
    """data that another process opens differs: ['statistics()']['names'][0]"""
    plugin.code('return {"counts"', 'return {"names": list({"one", "two"}), "counts"')


def data_of_chance(plugin: Copy) -> None:
    """data that another process opens differs: ['card.split_hash']"""
    plugin.code("Generator().manual_seed(number))", "Generator().manual_seed(int(torch.randint(1 << 30, ()))))")


SHOWN_BY_MORE: list[Callable[[Copy], None]] = [
    syntax_slip,
    error_at_import,
    samples_out_of_order,
    batch_out_of_order,
    batch_by_length,
    held_out_is_trained_on,
    drawn_with_replacement,
    tokenizer_dropout,
    drawn_objects,
    objects_of_numpy_chance,
    unmasked_objects,
    centred_objects,
    objects_out_of_order,
    too_few_parts,
    one_part_for_all,
    seeded_decoder,
    seeded_tokenizer_dropout,
    seeded_numpy,
    seeded_modules,
    positions_on_the_cpu,
    points_at_nothing,
    table_on_the_cpu,
    index_on_the_cpu,
    weights_on_the_cpu,
    plain_constant,
    plain_list,
    plain_tensor,
    units_of_classes,
    classes_of_one_name,
    too_few_conditioned,
    conditioned_by_the_first,
    unheeded_size,
    unheeded_fragment,
    nothing_held,
    held_at_random,
    sizes_beyond_the_layout,
    options_without_defaults,
    forgotten_parts,
    rounded_files,
    half_precision_files,
    rounded_second_format,
    inexact_format_turns,
    sorted_by_name,
    appends,
    tag_of_no_kind,
    script_left_behind,
    views_of_json_alone,
    percentage,
    other_share,
    share_without_counts,
    metric_that_never_comes,
    generation_metric_that_never_comes,
    unlisted_in_large_data,
    division_in_a_metric,
    state_in_a_global,
    default_in_a_global,
    split_by_hash,
    classes_of_a_set,
    data_of_chance,
]


# ------------------------------------------------------------- what is given stays as it is, and what is kept is kept


def encodes_in_place(plugin: Copy) -> None:
    """encode_samples() changes the samples that it is given: [0]"""
    plugin.code("row[: len(sample)] = sample\n", "row[: len(sample)] = sample.mul_(0.5)\n")


def tokenizes_in_place(plugin: Copy) -> None:
    """tokenizer() changes the batch that it is given: points"""
    plugin.code("Tokens(self.embed(batch.points),", "Tokens(self.embed(batch.points.mul_(0.9)),")


def decodes_in_place(plugin: Copy) -> None:
    """decoder() changes the latents that it is given"""
    plugin.code("self.block(self.up(latents),", "self.block(self.up(latents.data.mul_(0.9) + 0 * latents),")


def compares_in_place(plugin: Copy) -> None:
    """losses() changes the batch that it is given: points"""
    plugin.code("error = (output - batch.points)", "error = (output - batch.points.mul_(0.9))")


def marks_in_place(plugin: Copy) -> None:
    """modules.conditioned() changes the condition that it is given"""
    plugin.code("class PointTeacher(Teacher):", "    def conditioned(self, samples, condition):\n"
                "        condition += 1\n        return list(samples)\n\n\nclass PointTeacher(Teacher):")  # fmt: skip


def writes_in_place(plugin: Copy) -> None:
    """write() changes the samples that it is given: [0]"""
    plugin.code("writerows(sample.flatten().tolist() for", "writerows(sample.round_(decimals=3).flatten().tolist() for")


def draws_in_place(plugin: Copy) -> None:
    """save_picture() changes the samples that it is given: [0]"""
    plugin.code("    def save_picture(self, samples: Sequence[Tensor], path: Path) -> None:\n",
                "    def save_picture(self, samples: Sequence[Tensor], path: Path) -> None:\n"
                "        _ = [sample.sub_(sample.mean()) for sample in samples]\n")  # fmt: skip


def scores_in_place(plugin: Copy) -> None:
    """score_generation() changes the samples that it is given: [0]"""
    plugin.code("sample.norm(dim=-1) for", "sample.mul_(0.5).norm(dim=-1) for")


def scores_reconstructions_in_place(plugin: Copy) -> None:
    """score_reconstruction() changes the outputs that it is given: [0]"""
    plugin.code("(a - b).norm", "(b.sub_(a)).norm")


def features_of_no_buffer(plugin: Copy) -> None:
    """a model with the same weights gives other latents where it was built from another seed"""
    plugin.code("self.embed = nn.Linear(2, width)", "self.embed = nn.Linear(2, width)\n"
                "        self.register_buffer('scales', torch.randn(2), persistent=False)")  # fmt: skip
    plugin.code("self.embed(batch.points)", "self.embed(batch.points * self.scales)")


def decoder_of_its_seed(plugin: Copy) -> None:
    """a decoder with the same weights gives another output where it was built from another seed"""
    plugin.code("self.out = nn.Linear(32, 2)", "self.out = nn.Linear(32, 2)\n        self.gain = float(torch.rand(()))")
    plugin.code("= self.out(", "= self.gain * self.out(")


def scale_of_the_first_batch(plugin: Copy) -> None:
    """gives other latents where it was built from another seed, or met another batch first"""
    plugin.code("self.embed = nn.Linear(2, width)", "self.embed = nn.Linear(2, width)\n        self.scale = None")
    plugin.code("        mask = batch.registers.mask if", "        self.scale = self.scale or "
                "float(batch.points.std())\n        mask = batch.registers.mask if")  # fmt: skip
    plugin.code("self.embed(batch.points)", "self.embed(batch.points / self.scale)")


def conditions_of_others(plugin: Copy) -> None:
    """data.batch() gives a sample another condition in a batch than alone"""
    plugin.code("first if self.config.classes else None", "first.roll(1) if self.config.classes else None")


def batches_of_one_split(plugin: Copy) -> None:
    """data.batch('validation', ...) holds other samples than data.samples('validation', ...)"""
    plugin.code("(part[indices] for part in self.parts[split])", '(part[indices] for part in self.parts["train"])')


def size_or_condition(plugin: Copy) -> None:
    """the prior drops the condition it is asked for where a size is asked for too"""
    plugin.code(
        "(request.size or fewest), drawn.condition)", "(request.size or fewest), self.prior(generator).condition)"
    )


def negative_weight(plugin: Copy) -> None:
    """losses()['distance'].weight is -4.0"""
    plugin.code("mask.sum(1), 4.0)", "mask.sum(1), -4.0)")


def weight_of_no_number(plugin: Copy) -> None:
    """losses()['distance'].weight is nan"""
    plugin.code("mask.sum(1), 4.0)", "mask.sum(1), float('nan'))")


def read_as_tuple(plugin: Copy) -> None:
    """read() of samples.csv returns tuple return a list"""
    plugin.code("            return [torch.tensor([float(x) for x in row]).view(-1, 2) for row in csv.reader(stream)]",
                "            return tuple(torch.tensor([float(x) for x in row]).view(-1, 2) for row in "
                "csv.reader(stream))")  # fmt: skip


def equal_samples_once(plugin: Copy) -> None:
    """.csv: 12 samples are written and 11 read"""
    plugin.code("(sample.flatten().tolist() for sample in samples)",
                "(dict.fromkeys(tuple(sample.flatten().tolist()) for sample in samples))")  # fmt: skip


def file_beside_the_file(plugin: Copy) -> None:
    """.csv: write() leaves 'samples.index' beside the file"""
    plugin.code("        with path.open(\"w\"",
                "        (path.parent / 'samples.index').write_text('')\n        with path.open(\"w\"")  # fmt: skip


def score_of_chance(plugin: Copy) -> None:
    """score_reconstruction() gives 'error' another value each time"""
    plugin.code("value=float(errors.mean())", "value=float(errors.mean() + torch.rand(()))")


def score_of_a_random_part(plugin: Copy) -> None:
    """score_generation() gives 'on_ring' another value each time"""
    plugin.code("import csv\n", "import csv\nimport random\n")
    plugin.code("value=near / len(radius),\n            count=near,\n", "value=random.random(),\n")


def folder_of_its_own(plugin: Copy) -> None:
    """the plugin changes the working directory"""
    plugin.code("        self.config = config\n", "        self.config = config\n        __import__('os').chdir('/')\n")


def threads_of_its_own(plugin: Copy) -> None:
    """the plugin changes torch.get_num_threads()"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\ntorch.set_num_threads(torch.get_num_threads() + 1)")


def errors_of_numpy(plugin: Copy) -> None:
    """the plugin changes numpy's handling of errors"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\n__import__('numpy').seterr(all='raise')")


def deaf_to_signals(plugin: Copy) -> None:
    """the plugin changes the handling of signals"""
    plugin.code("MAX_POINTS = 3", "MAX_POINTS = 3\nimport signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)")


def samples_elsewhere(plugin: Copy) -> None:
    """modules.samples() leaves [0] on the device of the model"""
    plugin.code("[points[mask].cpu() for", "[points[mask] for")


LEFT_ALONE: list[Callable[[Copy], None]] = [
    encodes_in_place,
    tokenizes_in_place,
    decodes_in_place,
    compares_in_place,
    marks_in_place,
    writes_in_place,
    draws_in_place,
    scores_in_place,
    scores_reconstructions_in_place,
    features_of_no_buffer,
    decoder_of_its_seed,
    scale_of_the_first_batch,
    conditions_of_others,
    batches_of_one_split,
    size_or_condition,
    negative_weight,
    weight_of_no_number,
    read_as_tuple,
    equal_samples_once,
    file_beside_the_file,
    score_of_chance,
    score_of_a_random_part,
    folder_of_its_own,
    threads_of_its_own,
    errors_of_numpy,
    deaf_to_signals,
    samples_elsewhere,
]


LOADED += [*SHOWN_BY_MORE, *LEFT_ALONE]

ALL = [*BROKEN, *STATIC, *LOADED]
