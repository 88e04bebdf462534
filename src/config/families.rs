//! `ipFamilyPolicy` and `ipFamilies`: which address families an ADD gives, and which one comes
//! first. The names and values are those of a Service of Kubernetes.

use super::field::Field;
use super::{ConfigError, Mistakes, Route};
use crate::addr::Family;
use crate::ipam::{RangeSet, Static};

/// The number of address families that an ADD gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// One family.
    Single,
    /// Both families if there are ranges of both, else one.
    Prefer,
    /// Both families, or an error.
    Require,
}

impl Policy {
    const ALL: [(&'static str, Self); 3] = [
        ("SingleStack", Self::Single),
        ("PreferDualStack", Self::Prefer),
        ("RequireDualStack", Self::Require),
    ];
}

/// A value, and the place where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed<T> {
    value: T,
    place: String,
}

/// What a network or a pool says about families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Families {
    policy: Option<Placed<Policy>>,
    /// One or two families, the preferred one first.
    listed: Option<Placed<Vec<Family>>>,
}

/// What an ADD takes addresses from.
pub(super) struct Selected {
    /// The range sets, in the order of the result.
    pub(super) sets: Vec<RangeSet>,
    /// The families in the order of the result, or nothing if the configuration does not order
    /// them.
    pub(super) order: Vec<Family>,
    /// What keeps the network from a new allocation.
    pub(super) mistakes: Mistakes,
    /// A family of which there are ranges that are not used.
    left_out: Option<Family>,
}

impl Selected {
    /// Removes the routes of a family of which no pod gets an address.
    pub(super) fn retain_routes(&self, routes: &mut Vec<Route>) {
        routes.retain(|route| Some(route.dst.family()) != self.left_out);
    }
}

impl Families {
    /// Parses the two keys.
    ///
    /// # Errors
    /// Returns every mistake. A policy that contradicts the listed families is one.
    pub(super) fn parse(
        policy: Option<Field<'_>>,
        listed: Option<Field<'_>>,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::default();
        let policy = mistakes.note(policy.map(|field| self::policy(&field)).transpose()).flatten();
        let listed = mistakes.note(listed.map(|field| self::listed(&field)).transpose()).flatten();
        let families = Self { policy, listed: listed.filter(|listed| !listed.value.is_empty()) };
        if let (Some(Policy::Require), Some(listed)) = (families.policy(), &families.listed)
            && let [only] = listed.value[..]
        {
            let reason = format!(
                "expected both families, because ipFamilyPolicy is RequireDualStack, found only {only}"
            );
            mistakes.add(ConfigError::meaning(&listed.place, reason));
        }
        mistakes.none_or(families)
    }

    fn policy(&self) -> Option<Policy> {
        self.policy.as_ref().map(|policy| policy.value)
    }

    /// Returns these settings of a network with those of its pool below them, key by key. A network
    /// that lists one family and has no policy gives this family alone, whatever the policy of the
    /// pool is.
    pub(super) fn above(&self, pool: &Self) -> Self {
        let lists_one = self.listed.as_ref().is_some_and(|listed| listed.value.len() == 1);
        let below = if lists_one { &None } else { &pool.policy };
        Self {
            policy: self.policy.as_ref().or(below.as_ref()).cloned(),
            listed: self.listed.as_ref().or(pool.listed.as_ref()).cloned(),
        }
    }

    /// Returns whether an interface of the network should have both families. `has_both` says
    /// whether there are ranges of both.
    pub(super) fn wants_both(&self, has_both: bool) -> bool {
        match (self.policy(), &self.listed) {
            (Some(policy), _) => policy != Policy::Single,
            (None, Some(listed)) => listed.value.len() == 2,
            (None, None) => has_both,
        }
    }

    /// Selects the range sets, and brings them into the order of their families. Static addresses
    /// are given in any case, and count as addresses of their family. If there is a mistake, all
    /// sets stay as they are.
    pub(super) fn select(&self, sets: Vec<RangeSet>, statics: &[Static]) -> Selected {
        let Some(place) = self.place() else {
            return Selected::of_all(sets, Mistakes::default());
        };
        let of_statics = || statics.iter().map(|fixed| Family::of(fixed.address));
        let Some(first) = sets.iter().filter_map(family).chain(of_statics()).next() else {
            let reason = "expected ranges, a pool or addresses beside this key, found none";
            return Selected::of_all(sets, ConfigError::meaning(place, reason).into());
        };
        let has = |wanted: Family| {
            sets.iter().filter_map(family).chain(of_statics()).any(|found| found == wanted)
        };
        let order = self.order(first);
        let mut mistakes = Mistakes::default();
        for wanted in [Family::V4, Family::V6] {
            let count = sets.iter().filter(|set| family(set) == Some(wanted)).count();
            if 1 < count {
                let reason = format!(
                    "expected at most one range set of each family, found {count} of {wanted}"
                );
                let hint = "put all ranges of a family into one inner list of ranges";
                mistakes.add(ConfigError::meaning(place, reason).with_hint(hint));
            }
        }
        let is_required = self.policy() == Some(Policy::Require);
        let needed = if is_required || order.len() == 1 { &order[..] } else { &[] };
        for wanted in needed.iter().filter(|wanted| !has(**wanted)) {
            let place = match &self.listed {
                Some(listed) if !is_required => &listed.place,
                _ => place,
            };
            let what =
                if is_required { "ranges of both families" } else { "a range of the family" };
            let reason = format!("expected {what}, found no range of {wanted}");
            mistakes.add(ConfigError::meaning(place, reason));
        }
        if let Some(other) =
            statics.iter().find(|fixed| !order.contains(&Family::of(fixed.address)))
        {
            let reason = format!(
                "expected only addresses of {}, because {place} asks for one family, found {}",
                order[0], other.address
            );
            mistakes.add(ConfigError::meaning("ipam.addresses", reason));
        }
        if !mistakes.is_empty() {
            return Selected::of_all(sets, mistakes);
        }
        let rank = |set: &RangeSet| order.iter().position(|listed| Some(*listed) == family(set));
        let left_out = sets.iter().filter(|set| rank(set).is_none()).find_map(family);
        let mut sets: Vec<RangeSet> = sets.into_iter().filter(|set| rank(set).is_some()).collect();
        sets.sort_by_key(rank);
        Selected { sets, order, mistakes, left_out }
    }

    /// Returns the place of a key that is set.
    fn place(&self) -> Option<&str> {
        let listed = || self.listed.as_ref().map(|listed| listed.place.as_str());
        self.policy.as_ref().map(|policy| policy.place.as_str()).or_else(listed)
    }

    /// Returns one or two families, the preferred one first. `first` is the default.
    fn order(&self, first: Family) -> Vec<Family> {
        let listed = self.listed.as_ref().map_or([first].to_vec(), |listed| listed.value.clone());
        let is_single = match self.policy() {
            Some(policy) => policy == Policy::Single,
            None => listed.len() == 1,
        };
        if is_single {
            return listed[..1].to_vec();
        }
        let preferred = listed[0];
        let other = if preferred == Family::V4 { Family::V6 } else { Family::V4 };
        vec![preferred, other]
    }
}

impl Selected {
    fn of_all(sets: Vec<RangeSet>, mistakes: Mistakes) -> Self {
        Self { sets, order: Vec::new(), mistakes, left_out: None }
    }
}

/// Returns the family of a range set.
fn family(set: &RangeSet) -> Option<Family> {
    set.ranges.first().map(|range| range.subnet.family())
}

fn policy(field: &Field<'_>) -> Result<Placed<Policy>, ConfigError> {
    let text = field.text()?;
    match Policy::ALL.iter().find(|(name, _)| *name == text) {
        Some((_, value)) => Ok(Placed { value: *value, place: field.path.clone() }),
        None => Err(field.wrong("expected SingleStack, PreferDualStack or RequireDualStack")),
    }
}

fn listed(field: &Field<'_>) -> Result<Placed<Vec<Family>>, Mistakes> {
    let mut value = Vec::new();
    Mistakes::each(field.list()?, |item| {
        let family = match item.text()? {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return Err(item.wrong("expected IPv4 or IPv6")),
        };
        if value.contains(&family) {
            return Err(item.wrong("expected each family once"));
        }
        value.push(family);
        Ok(())
    })?;
    Ok(Placed { value, place: field.path.clone() })
}
