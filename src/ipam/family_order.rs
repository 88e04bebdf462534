//! The order of the families among the addresses of one ADD.

use super::{Part, Slot};
use crate::addr::Family;

/// Brings the slots of an ADD into the order of their families. Within a family, and with an empty
/// `order`, they stay as they are.
pub fn order_by_family(slots: &mut [Slot], order: &[Family]) {
    if order.is_empty() {
        return;
    }
    slots.sort_by_key(|slot| {
        let family = slot.candidates.first().map(|candidates| candidates.addresses.family());
        order.iter().position(|listed| Some(*listed) == family).unwrap_or(order.len())
    });
    for (index, slot) in (0..).zip(slots) {
        slot.part = Part { index, ..slot.part };
    }
}
