//! Every scenario in which something was found wrong once, by its family and seed: what it was is told
//! in docs/explanation/what-simulation-found.md.

use simulator::{Family, Scenario};

const FAILED: [(Family, u64); 55] = [
    (Family::All, 28),
    (Family::All, 163),
    (Family::All, 269),
    (Family::Fallbacks, 686),
    (Family::Removals, 24),
    (Family::Handover, 5_996),
    (Family::All, 2_000_618),
    (Family::All, 2_002_708),
    (Family::All, 3_000_159),
    (Family::All, 7_000_116),
    (Family::All, 7_000_462),
    (Family::All, 1_052_414),
    (Family::All, 1_053_116),
    (Family::All, 7_000_067),
    (Family::All, 7_000_240),
    (Family::All, 7_000_372),
    (Family::All, 7_000_387),
    (Family::All, 7_200_310),
    (Family::All, 7_300_947),
    (Family::All, 1_058_133),
    (Family::All, 40_006_593),
    (Family::All, 40_014_856),
    (Family::All, 50_005_832),
    (Family::All, 50_013_263),
    (Family::All, 50_021_229),
    (Family::All, 70_003_209),
    (Family::All, 80_002_552),
    (Family::All, 90_002_702),
    (Family::All, 90_006_815),
    (Family::All, 100_101_281),
    (Family::All, 100_105_670),
    (Family::All, 100_208_796),
    (Family::All, 102_005_084),
    (Family::All, 102_009_874),
    (Family::All, 102_012_054),
    (Family::All, 103_006_896),
    (Family::All, 105_006_320),
    (Family::All, 107_010_207),
    (Family::All, 131_000_793),
    (Family::All, 142_001_562),
    (Family::AllRings, 17),
    (Family::AllRings, 68),
    (Family::AllRings, 83),
    (Family::AllRings, 1_207),
    (Family::AllRings, 1_559),
    (Family::AllRings, 1_708),
    (Family::AllRings, 7_018),
    (Family::AllRings, 154_008_370),
    (Family::Rings, 154_000_501),
    (Family::Rings, 154_001_113),
    (Family::Rings, 155_000_433),
    (Family::Rings, 155_002_065),
    (Family::Large, 1_003_894),
    (Family::LostDisks, 134),
    (Family::LostDisks, 7_100_352),
];

#[test]
fn scenarios_that_once_failed_do_not_fail_again() {
    for (family, seed) in FAILED {
        Scenario::drawn(family, seed).check();
    }
}
