//! `planted!("name")`: whether this bug is on.

#[cfg(planting)]
macro_rules! planted {
    ($bug:literal) => {
        antiphon_planted::is_on($bug)
    };
}

/// Bugs planted on purpose are only in a build of the simulator with `--cfg planting`: see decision 0007.
#[cfg(not(planting))]
macro_rules! planted {
    ($bug:literal) => {
        false
    };
}

pub(crate) use planted;
