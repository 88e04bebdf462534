//! What this node believes to be taken in one scope: a hint in the node state that chooses the next
//! candidate. It decides nothing; the creation of the object does.
//!
//! As long as nodes do not race, the next candidate is the lowest free one. In a range that is
//! cheap to list, the node lists the scope before its first claim, and again before a claim while
//! other nodes take addresses as well. If another node was first although the scope was just
//! listed, or if the range is large, there is a race. For some time from then on, this node
//! continues from a free address that it draws at random, and it draws again at each miss, so that
//! nodes that fill one range at the same time do not follow one another. (20 nodes that fill a
//! range of 1,000 addresses at once need 1.06 creations per ADD when it is half full. From the
//! middle of the largest gap they need 1.3, because nodes that list at once choose alike; with the
//! lowest address first they need 4.4.)

mod lines;

use crate::addr::{AddrSet, Mask, Shard, add_bit, bits_from, lowest_free, remove_bit};
use crate::digest;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The maximum number of shards that are kept. With more, the file would be larger than a file of
/// the state may be.
const MOST_SHARDS: usize = 8192;
/// The maximum number of sets of candidates that are told apart.
const MOST_SETS: usize = 64;
/// How long the beliefs about a scope are kept when the node holds nothing there.
const IDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// At a miss, the scope is listed again if the last listing is older than this many times its
/// duration. So no node spends more than a twentieth of its time on listings.
const LISTING_SHARE: u32 = 20;
/// The size of the largest range that is listed to find its lowest free address.
const LISTED_FIRST: u128 = 4096;
/// How long after a miss other nodes are believed to fill the range as well.
const RACE: Duration = Duration::from_secs(10);

/// The beliefs about one scope, see the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Occupancy {
    taken: BTreeMap<Shard, Mask>,
    /// When the scope was last listed, and how long that took.
    listed: Option<(SystemTime, Duration)>,
    /// Two listings have shown that a set of candidates was held. Until this time no listing is
    /// worthwhile for any other set of which nothing is free.
    full_until: Option<SystemTime>,
    /// Whether the last listing showed changes by other nodes.
    others: bool,
    /// Until this time the node continues from the addresses that it draws.
    spread: Option<SystemTime>,
    sets: Vec<Set>,
}

/// What is known of one set of candidates.
#[derive(Debug, Clone, PartialEq)]
struct Set {
    key: String,
    /// The address from which to continue.
    from: Option<IpAddr>,
}

impl Occupancy {
    /// Returns whether the address is believed to be taken.
    pub(crate) fn is_taken(&self, address: IpAddr) -> bool {
        let shard = Shard::of(address);
        let low = shard.position(address).unwrap_or(0);
        let mut wanted = [0; 4];
        add_bit(&mut wanted, low);
        self.taken.get(&shard).is_some_and(|taken| lowest_free(&wanted, taken).is_none())
    }

    /// Notes that an address is taken.
    pub(crate) fn take(&mut self, address: IpAddr) {
        let shard = Shard::of(address);
        if let Some(low) = shard.position(address) {
            add_bit(self.taken.entry(shard).or_default(), low);
        }
    }

    /// Notes that an address is free.
    pub(crate) fn free(&mut self, address: IpAddr) {
        let shard = Shard::of(address);
        if let (Some(taken), Some(low)) = (self.taken.get_mut(&shard), shard.position(address)) {
            remove_bit(taken, low);
            if *taken == [0; 4] {
                self.taken.remove(&shard);
            }
        }
    }

    /// Returns the next candidate and notes it as taken.
    pub(crate) fn choose(&mut self, candidates: &AddrSet, now: SystemTime) -> Option<IpAddr> {
        let at = self.sets.iter().position(|set| set.from.is_some() && set.key == key(candidates));
        let from = at.and_then(|at| self.sets[at].from).filter(|_| self.is_spread(now));
        let chosen = match from {
            None => self.first_free(candidates, None)?,
            Some(_) => {
                self.first_free(candidates, from).or_else(|| self.first_free(candidates, None))?
            }
        };
        if let Some(at) = at.filter(|_| from.is_some()) {
            self.sets[at].from = Some(chosen);
        }
        self.take(chosen);
        Some(chosen)
    }

    /// Returns the lowest free candidate without taking it.
    pub(crate) fn peek(&self, candidates: &AddrSet) -> Option<IpAddr> {
        self.first_free(candidates, None)
    }

    /// Returns the lowest free candidate at or above an address.
    fn first_free(&self, candidates: &AddrSet, from: Option<IpAddr>) -> Option<IpAddr> {
        let mut shard = candidates.shard_from(from.map(Shard::of))?;
        loop {
            let mut wanted = candidates.mask(shard);
            if let Some(low) = from.and_then(|from| shard.position(from)) {
                wanted = bits_from(&wanted, low);
            }
            let taken = self.taken.get(&shard).copied().unwrap_or_default();
            if let Some(low) = lowest_free(&wanted, &taken) {
                return Some(shard.member(low));
            }
            shard = candidates.shard_from(Some(shard.next()?))?;
        }
    }

    /// Returns whether to list the scope before the lowest free candidate is taken for free. That
    /// is so if the scope was never listed, or if other nodes take its addresses, unless it was
    /// just listed. In a race a listing is out of date at once.
    pub(crate) fn is_worth_listing(
        &self,
        candidates: &AddrSet,
        missed: bool,
        now: SystemTime,
    ) -> bool {
        let is_news = missed || self.others || self.listed.is_none();
        is_news && candidates.count() <= LISTED_FIRST && self.is_old(now) && !self.is_spread(now)
    }

    /// Returns whether this node continues from the addresses that it has drawn.
    pub(crate) fn is_spread(&self, now: SystemTime) -> bool {
        // If the clock was set back, this must not continue forever.
        self.spread.is_some_and(|until| now < until && until <= now + RACE)
    }

    /// Makes this node continue, for some time from now on, from a free candidate that is drawn. In
    /// a nearly full range, where draws hit taken candidates, it continues from the next free one.
    pub(crate) fn go_elsewhere(
        &mut self,
        candidates: &AddrSet,
        now: SystemTime,
        mut draw: impl FnMut(u128) -> u128,
    ) {
        let count = candidates.count();
        if count == 0 {
            return;
        }
        let mut drawn = || candidates.nth(draw(count));
        let from =
            (0..64).filter_map(|_| drawn()).find(|address| !self.is_taken(*address)).or_else(drawn);
        self.set(candidates).from = from;
        self.spread = Some(now + RACE);
    }

    fn set(&mut self, candidates: &AddrSet) -> &mut Set {
        let key = key(candidates);
        let at = self.sets.iter().position(|set| set.key == key).unwrap_or_else(|| {
            // A client that always asks for other sets displaces the oldest set, not all of them.
            if MOST_SETS <= self.sets.len() {
                self.sets.remove(0);
            }
            self.sets.push(Set { key, from: None });
            self.sets.len() - 1
        });
        &mut self.sets[at]
    }

    /// Returns whether all of these candidates were held a moment ago, for whichever set of
    /// candidates the scope was listed: a listing shows the whole scope.
    pub(crate) fn is_full(&self, candidates: &AddrSet, now: SystemTime) -> bool {
        // If the clock was set back, the scope must not stay full forever.
        let believed = |until: SystemTime| now < until && until < now + Duration::from_secs(60);
        self.full_until.is_some_and(believed) && self.peek(candidates).is_none()
    }

    /// Notes that two listings have shown what is taken now. This is believed until `until`.
    pub(crate) fn mark_full(&mut self, until: SystemTime) {
        self.full_until = Some(until);
    }

    /// Returns whether the scope was listed after `since`. A listing from the future does not
    /// count, for example one from before the clock was set back.
    pub(crate) fn is_listed_since(&self, since: SystemTime, now: SystemTime) -> bool {
        self.listed.is_some_and(|(at, _)| since <= at && at <= now)
    }

    /// Returns whether it is time to list again after a miss.
    pub(crate) fn is_old(&self, now: SystemTime) -> bool {
        self.listed.is_none_or(|(at, took)| {
            now.duration_since(at).map_or(true, |age| took * LISTING_SHARE <= age)
        })
    }

    /// Returns whether no ADD has listed the scope for a day.
    pub(crate) fn is_idle(&self, now: SystemTime) -> bool {
        let lately = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age < IDLE);
        !self.listed.is_some_and(|(at, _)| lately(at))
            && !self.full_until.is_some_and(|until| now < until && until < now + IDLE)
    }

    /// Replaces the beliefs by a listing. `before` is what was believed when the listing began.
    /// What this node has taken or freed since then is kept, because the listing may not show it.
    pub(crate) fn replace(
        &mut self,
        before: &Self,
        mut listed: Self,
        began: SystemTime,
        took: Duration,
    ) {
        for (shard, now) in &self.taken {
            let then = before.taken.get(shard).copied().unwrap_or_default();
            let entry = listed.taken.entry(*shard).or_default();
            for word in 0..4 {
                entry[word] |= now[word] & !then[word];
            }
        }
        for (shard, then) in &before.taken {
            let now = self.taken.get(shard).copied().unwrap_or_default();
            if let Some(entry) = listed.taken.get_mut(shard) {
                for word in 0..4 {
                    entry[word] &= !(then[word] & !now[word]);
                }
            }
        }
        listed.taken.retain(|_, mask| *mask != [0; 4]);
        self.others = self.taken != listed.taken;
        self.taken = listed.taken;
        self.listed = Some((began, took));
    }
}

/// Returns a short key of the candidates, without a space.
fn key(candidates: &AddrSet) -> String {
    let ranges: Vec<String> = candidates.ranges().map(|range| range.to_string()).collect();
    digest::short(&[&ranges.join("_")])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Range, Subnet};
    use std::time::UNIX_EPOCH;

    const NOW: SystemTime = UNIX_EPOCH;

    fn candidates(subnet: &str) -> AddrSet {
        AddrSet::from_range(&Subnet::parse(subnet).unwrap().usable())
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_lowest_free_comes_first_until_another_was_first() {
        let mut hint = Occupancy::default();
        let range = candidates("10.0.0.0/22");
        for low in 1..=600u16 {
            let [high, low] = low.to_be_bytes();
            assert_eq!(hint.choose(&range, NOW), Some(address(&format!("10.0.{high}.{low}"))));
        }
        hint.free(address("10.0.0.9"));
        assert_eq!(hint.choose(&range, NOW), Some(address("10.0.0.9")));
        hint.go_elsewhere(&range, NOW, |count| count - 2);
        assert_eq!(hint.choose(&range, NOW), Some(address("10.0.3.253")));
        assert_eq!(hint.choose(&range, NOW), Some(address("10.0.3.254")));
        // After the end of the range it continues at the beginning.
        assert_eq!(hint.choose(&range, NOW), Some(address("10.0.2.89")));
    }

    /// Checks when a listing is worth its request, and when the draws of a race end.
    #[test]
    fn while_nobody_races_it_is_looked_where_others_take_addresses_too() {
        let (range, large) = (candidates("10.0.0.0/20"), candidates("10.0.0.0/19"));
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut hint = Occupancy::default();
        assert!(
            hint.is_worth_listing(&range, false, at(1))
                && !hint.is_worth_listing(&large, true, at(1))
        );
        // No other node is there: from then on the scope is not listed before a miss.
        hint.replace(&Occupancy::default(), Occupancy::default(), at(1), Duration::from_millis(50));
        assert!(
            !hint.is_worth_listing(&range, false, at(9))
                && hint.is_worth_listing(&range, true, at(9))
        );
        assert!(!hint.is_worth_listing(&range, true, at(1)), "listed just now");
        // Another node is there.
        let mut listed = Occupancy::default();
        listed.take(address("10.0.0.1"));
        hint.replace(&hint.clone(), listed, at(9), Duration::from_millis(50));
        assert!(
            hint.is_worth_listing(&range, false, at(10))
                && !hint.is_worth_listing(&range, false, at(9))
        );
        assert_eq!(hint.choose(&range, at(10)), Some(address("10.0.0.2")));

        hint.go_elsewhere(&range, at(10), |_| 99);
        assert!(
            !hint.is_worth_listing(&range, true, at(19))
                && hint.is_worth_listing(&range, true, at(20))
        );
        assert_eq!(hint.choose(&range, at(19)), Some(address("10.0.0.100")));
        assert_eq!(hint.choose(&range, at(20)), Some(address("10.0.0.3")));
        assert!(!hint.is_spread(UNIX_EPOCH - Duration::from_secs(60)), "a clock that was set back");
    }

    #[test]
    fn everything_taken_is_nothing_to_choose() {
        let mut hint = Occupancy::default();
        let range = candidates("10.0.0.0/29");
        for _ in 0..6 {
            assert!(hint.choose(&range, NOW).is_some());
        }
        assert_eq!(hint.choose(&range, NOW), None);
        hint.go_elsewhere(&range, NOW, |_| 3);
        assert_eq!(hint.choose(&range, NOW), None);
        hint.free(address("10.0.0.2"));
        assert_eq!(hint.choose(&range, NOW), Some(address("10.0.0.2")));
        assert_eq!(hint.choose(&candidates("2001:db8::/64"), NOW), Some(address("2001:db8::1")));
    }

    #[test]
    fn full_is_believed_for_a_while_and_until_one_is_freed() {
        let mut hint = Occupancy::default();
        let (range, other) = (candidates("10.0.0.0/29"), candidates("10.0.1.0/29"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        range
            .ranges()
            .flat_map(|_| (0..6).filter_map(|n| range.nth(n)))
            .for_each(|address| hint.take(address));
        assert!(!hint.is_full(&range, now), "the scope was not listed twice");
        hint.mark_full(now + Duration::from_secs(5));
        assert!(hint.is_full(&range, now));
        assert!(!hint.is_full(&other, now));
        assert!(!hint.is_full(&range, now + Duration::from_secs(5)));
        // The clock was set back by an hour.
        assert!(!hint.is_full(&range, UNIX_EPOCH));
        hint.free(address("10.0.9.9"));
        assert!(hint.is_full(&range, now));
        hint.free(address("10.0.0.3"));
        assert!(!hint.is_full(&range, now));
    }

    /// Cause: 64 sets of candidates were told apart, and beyond that all were forgotten. Effect: a
    /// client that asked for other bounds each time made two lists of the scope per ADD, and all
    /// other clients lost their sets. Fix: a listing is valid for the whole scope.
    #[test]
    fn what_is_full_is_so_whatever_set_of_candidates_is_asked_for() {
        let mut hint = Occupancy::default();
        let range = candidates("10.0.0.0/24");
        while hint.choose(&range, NOW).is_some() {}
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        hint.mark_full(now + Duration::from_secs(5));
        let parts = (0..254u128)
            .filter_map(|n| range.nth(n))
            .map(|one| AddrSet::from_range(&Range::single(one)));
        assert!(parts.clone().all(|part| hint.is_full(&part, now)));
        hint.go_elsewhere(&range, NOW, |_| 9);
        parts.take(MOST_SETS - 1).for_each(|part| hint.go_elsewhere(&part, NOW, |_| 0));
        assert!(
            hint.sets.iter().any(|set| set.key == key(&range)),
            "no other set has cost it its place"
        );
        assert!(hint.sets.len() <= MOST_SETS && hint.is_full(&range, now));
    }

    #[test]
    fn what_was_not_listed_for_a_day_is_idle() {
        let mut hint = Occupancy::default();
        let at = UNIX_EPOCH + 2 * IDLE;
        assert!(hint.is_idle(at));
        hint.replace(&Occupancy::default(), Occupancy::default(), at, Duration::ZERO);
        assert!(!hint.is_idle(at) && hint.is_idle(at + IDLE));
        assert!(hint.is_idle(UNIX_EPOCH), "a clock that was set back must not keep it for ever");
        hint.mark_full(at + IDLE + Duration::from_secs(5));
        assert!(!hint.is_idle(at + IDLE));
    }

    #[test]
    fn a_listing_from_the_future_is_none() {
        let mut hint = Occupancy::default();
        let [before, now, later] = [1, 2, 3].map(|second| UNIX_EPOCH + Duration::from_secs(second));
        hint.replace(&Occupancy::default(), Occupancy::default(), now, Duration::ZERO);
        assert!(hint.is_listed_since(before, now) && hint.is_listed_since(before, later));
        assert!(!hint.is_listed_since(before, before) && !hint.is_listed_since(later, later));
    }

    #[test]
    fn a_listing_keeps_what_this_node_did_meanwhile() {
        let mut before = Occupancy::default();
        before.take(address("10.0.0.1"));
        before.take(address("10.0.0.2"));
        let mut now = before.clone();
        now.take(address("10.0.0.3"));
        now.free(address("10.0.0.2"));
        let mut listed = Occupancy::default();
        for text in ["10.0.0.2", "10.0.0.9"] {
            listed.take(address(text));
        }
        now.replace(&before, listed, UNIX_EPOCH, Duration::ZERO);
        let taken = |text: &str| now.is_taken(address(text));
        assert!(!taken("10.0.0.1"), "gone, though this node once saw it");
        assert!(!taken("10.0.0.2"), "freed by this node since");
        assert!(taken("10.0.0.3"), "taken by this node since");
        assert!(taken("10.0.0.9"));
    }

    #[test]
    fn a_listing_is_made_again_after_twenty_times_what_it_took() {
        let mut hint = Occupancy::default();
        let at = UNIX_EPOCH + Duration::from_secs(100);
        assert!(hint.is_old(at));
        hint.replace(&Occupancy::default(), Occupancy::default(), at, Duration::from_millis(50));
        assert!(hint.is_listed_since(at, at));
        assert!(!hint.is_old(at + Duration::from_millis(999)));
        assert!(hint.is_old(at + Duration::from_millis(1000)));
    }

    #[test]
    fn it_is_read_back_as_it_was_written_and_rubbish_is_passed_over() {
        let mut hint = Occupancy::default();
        let range = candidates("10.0.0.0/16");
        hint.choose(&candidates("2001:db8::/64"), NOW);
        hint.go_elsewhere(&range, NOW, |_| 700);
        hint.choose(&range, NOW);
        hint.mark_full(UNIX_EPOCH + Duration::from_millis(12_345));
        hint.replace(
            &hint.clone(),
            hint.clone(),
            UNIX_EPOCH + Duration::from_millis(99),
            Duration::from_millis(7),
        );
        assert_eq!(Occupancy::decode(hint.encode().as_bytes()), hint);
        for text in [
            "x",
            "4 5",
            "4 zz 0 0 0 0",
            "9 ffffffffffffffffffffffff 1 1 1 1",
            "listed x y",
            "set",
            "\u{0}\u{ff}",
        ] {
            let _ = Occupancy::decode(text.as_bytes());
        }
        assert_eq!(Occupancy::decode(b"4 zz 0 0 0 0\nlisted x y\nset a"), Occupancy::default());
    }
}
