"""Published benchmarks that a user has to bring: which file, from where, how it becomes ours."""

from __future__ import annotations

from dataclasses import dataclass

from nasplatform.atomic_io import user_folder


@dataclass(frozen=True)
class Published:
    """A benchmark that can be imported.

    files:    what the authors offer, in words.
    page:     where.
    download: whether ``nasplatform data fetch`` can bring it.
    """

    name: str
    files: str
    page: str
    download: bool

    def how(self) -> str:
        """Say on one line how to get the table, and where it will lie."""
        given = f"nasplatform data import {self.name} FILE"
        command = f"nasplatform data fetch {self.name}`, or with the file at hand `{given}"
        return (
            f"it is made from {self.files}, from {self.page}: "
            f"`{command if self.download else given}`; it will lie in {user_folder()}"
        )


_SUBNETS = "vit_autoformer_imagenet.parquet, accuracies of AutoFormer's subnets"
PUBLISHED = {
    each.name: each
    for each in (
        Published(
            "nasbench101",
            "nasbench_only108.tfrecord or nasbench_full.tfrecord",
            "https://github.com/google-research/nasbench",
            download=True,
        ),
        Published(
            "nasbench201",
            "the folder of NATS-tss-v1_0-3ffb9-simple.tar, unpacked",
            "https://github.com/D-X-Y/NATS-Bench",
            download=False,
        ),
        *(
            Published(name, _SUBNETS, "the authors of OoD-ViT-NAS", download=False)
            for name in ("autoformer-tiny", "autoformer-small")
        ),
        *(
            Published(
                f"vitbench101-{kind}",
                f"{files} in gt_results",
                "https://github.com/lliai/Auto-Prox-AAAI24",
                download=True,
            )
            for kind, files in (
                ("autoformer", "gt_autoformer.pth and gt_autoformer_2.pth"),
                ("pit", "gt_pit.pth"),
            )
        ),
    )
}
