from unite_mm.testing import ConformanceSuite


class TestConformance(ConformanceSuite):
    modality = "signals"
