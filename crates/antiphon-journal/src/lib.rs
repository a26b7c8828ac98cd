//! A segmented, recycled, group-committed log behind a storage trait.
