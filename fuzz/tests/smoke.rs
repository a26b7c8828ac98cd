//! Every target with some thousand inputs from a fixed seed, so that a plain test run finds the coarse mistakes.

/// splitmix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Up to `max` bytes, small numbers more often than large ones: lengths and counts are small numbers.
    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let count = self.next() % (max + 1);
        let byte = |random: u64| if random & 0x300 == 0 { random as u8 } else { (random % 7) as u8 };
        (0..count).map(|_| byte(self.next())).collect()
    }
}

fn run(target: fn(&[u8]), seed: u64, times: u32, max: u64) {
    let mut random = Random(seed);
    for _ in 0..times {
        target(&random.bytes(max));
    }
}

#[test]
fn any_bytes_are_frames_or_an_error() {
    run(antiphon_fuzz::frames, 1, 200_000, 200);
}

#[test]
fn any_bytes_are_a_record_or_an_error() {
    run(antiphon_fuzz::record, 2, 200_000, 150);
}

#[test]
fn any_text_is_an_address_or_an_error() {
    run(antiphon_fuzz::address, 3, 50_000, 60);
    for text in ["antiphon://", "antiphon://[::1]:7400", "antiphon://h:99999", "h:1", "/", "antiphon+unix:///a b"] {
        antiphon_fuzz::address(text.as_bytes());
    }
}

#[test]
fn a_damaged_journal_opens_or_is_refused() {
    let mut random = Random(4);
    for _ in 0..400 {
        // Damage anywhere in the first 64 KiB of up to 8 places.
        let places = 1 + random.next() % 8;
        let data: Vec<u8> = (0..places).flat_map(|_| (random.next() as u32).to_le_bytes()).collect();
        antiphon_fuzz::journal(&data);
    }
}
