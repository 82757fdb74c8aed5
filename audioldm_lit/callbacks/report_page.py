"""The end of `fit`: a page for people, beside the run's files."""

from lightning import Callback, Trainer
from rich.console import Console

from audioldm_lit.console.markup import linked
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.report.page import write_report
from audioldm_lit.report.texts import Texts
from audioldm_lit.training.loggers import log_report
from audioldm_lit.training.run_folder import rank_zero_folder


class ReportPage(Callback):
    """Writes `report.html` when training is over: the answer, the sounds it rests on, and what to do next.

    Args:
        language: Of its texts, `en` or `ja`; null for no report.
    """

    def __init__(self, language: str | None = "en") -> None:
        if language is not None:
            Texts(language)  # refused now if there is no such catalogue
        self.language = language

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Write it, show it to the loggers and name it, on the first process; nothing where no check was kept."""
        if self.language is None or pl_module.outcome.best is None or not trainer.is_global_zero:
            return
        folder = rank_zero_folder(trainer)
        page = folder / "report.html"
        write_report(page, [folder], self.language)
        for logger in trainer.loggers:
            log_report(logger, page)
        Console(emoji=False).print(f"Report: {linked(page)}", soft_wrap=True, highlight=False)
