use proptest::prelude::*;

use super::*;

const FRAME: u32 = TIMESCALE / 25;

/// Times of pictures with these RTP timestamps, 40 ms apart in arrival.
fn times(timeline: &mut Timeline, rtp: impl IntoIterator<Item = u32>) -> Vec<PictureTime> {
    let mut at = Instant::now();
    rtp.into_iter()
        .map(|rtp| {
            at += Duration::from_millis(40);
            timeline.next(rtp, at)
        })
        .collect()
}

fn decode_steps(times: &[PictureTime]) -> Vec<i64> {
    times.windows(2).map(|w| w[1].decode - w[0].decode).collect()
}

#[test]
fn without_reordering_both_times_are_the_timestamp_also_when_it_wraps() {
    let mut timeline = Timeline::new(TIMESCALE);
    let found = times(
        &mut timeline,
        (0..5).map(|i| (u32::MAX - 7_000).wrapping_add(i * FRAME)),
    );
    assert!(found.iter().all(|t| t.decode == t.composition), "{found:?}");
    assert_eq!(decode_steps(&found), [i64::from(FRAME); 4]);
    assert_eq!(found[0].composition, ORIGIN);
}

#[test]
fn reordered_pictures_keep_their_order_of_showing_and_are_decoded_at_even_steps() {
    // I P B B P B B, each group shown as B B P.
    let shown = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
    let mut timeline = Timeline::new(TIMESCALE);
    timeline.set_depth(1);
    let found = times(&mut timeline, shown.iter().map(|n| n * FRAME));
    assert_eq!(decode_steps(&found), [i64::from(FRAME); 9]);
    for (time, shown) in found.iter().zip(shown) {
        assert_eq!(time.composition, ORIGIN + i64::from(shown * FRAME));
        assert!(time.decode <= time.composition, "{time:?}");
    }
}

#[test]
fn reordering_that_the_parameter_sets_do_not_tell_is_noticed() {
    let shown: Vec<u32> = (0..20).flat_map(|g| [3, 1, 2].map(|n| g * 3 + n)).collect();
    let mut timeline = Timeline::new(TIMESCALE);
    let found = times(&mut timeline, [0].into_iter().chain(shown).map(|n| n * FRAME));
    assert!(decode_steps(&found).iter().all(|step| *step > 0));
    assert!(decode_steps(&found)[6..].iter().all(|step| *step == i64::from(FRAME)));
    assert!(found[6..].iter().all(|t| t.decode <= t.composition));
}

#[test]
fn a_timestamp_that_jumps_or_repeats_is_replaced_by_the_time_of_arrival() {
    let mut timeline = Timeline::new(TIMESCALE);
    let found = times(
        &mut timeline,
        [0, FRAME, 0x7000_0000, 0x7000_0000 + FRAME, 50, 50, 50 + FRAME],
    );
    assert_eq!(decode_steps(&found), [i64::from(FRAME); 6]);
}

#[test]
fn another_stream_continues_directly_after_the_last_picture() {
    let mut timeline = Timeline::new(TIMESCALE);
    let before = times(&mut timeline, [0, FRAME]);
    timeline.restart(0);
    let after = times(&mut timeline, [77_777_777, 77_777_777 + FRAME]);
    assert_eq!(after[0].decode - before[1].decode, i64::from(FRAME));
    assert_eq!(decode_steps(&after), [i64::from(FRAME)]);
}

#[test]
fn another_clock_rate_is_converted() {
    let mut timeline = Timeline::new(1_000);
    let found = times(&mut timeline, [0, 40, 80]);
    assert_eq!(decode_steps(&found), [i64::from(FRAME); 2]);
}

proptest! {
    #[test]
    fn decoding_times_grow_whatever_comes(
        pictures in prop::collection::vec((any::<u32>(), 0_u64..20_000, 0_usize..20, 0_u8..20), 1..200),
        clock_rate in any::<u32>(),
    ) {
        let (mut timeline, mut at) = (Timeline::new(clock_rate), Instant::now());
        let mut before = -1;
        for (rtp, wait, depth, action) in pictures {
            at += Duration::from_millis(wait);
            match action {
                0 => timeline.gap(),
                1 => timeline.restart(clock_rate),
                2 => timeline.set_depth(depth),
                _ => {}
            }
            let time = timeline.next(rtp, at);
            prop_assert!(time.decode > before && time.composition >= 0, "{time:?} after {before}");
            prop_assert!(i32::try_from(time.composition - time.decode).is_ok());
            prop_assert!(timeline.waiting.len() <= MAX_DEPTH && timeline.recent.len() <= MAX_DEPTH);
            before = time.decode;
        }
    }

    /// The obvious way: sort all times of showing, and delay them by the depth.
    #[test]
    fn decoding_times_are_the_sorted_times_of_showing(depth in 1_usize..5, groups in 1_u32..20) {
        // Each group is one picture ahead and `depth` bidirectional ones shown before it, from the last to the first.
        let size = depth as u32 + 1;
        let shown: Vec<u32> = [0]
            .into_iter()
            .chain((0..groups).flat_map(|g| (1..=size).rev().map(move |n| g * size + n)))
            .collect();
        let mut timeline = Timeline::new(TIMESCALE);
        timeline.set_depth(depth);
        let found = times(&mut timeline, shown.iter().map(|n| n * FRAME));
        let mut sorted: Vec<i64> = found.iter().map(|t| t.composition).collect();
        sorted.sort_unstable();
        for (time, expected) in found[depth..].iter().zip(sorted) {
            prop_assert_eq!(time.decode, expected);
        }
    }
}
