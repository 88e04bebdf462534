//! A cluster in which nodes of Whereabouts and of hereabouts give addresses out of one range: the real
//! Whereabouts, on a real API server.
//!
//! - `rig`: the cluster, and what stands in it
//! - `seen`: what each of both sees of the other
//! - `faults`: what happens between two requests of a call
//! - `speed`: how long an ADD of each takes
//! - `imported`: pods that Whereabouts has started
//! - `ended`: pods that have ended under Whereabouts since
//! - `race`: both at the same time, for a while

mod ended;
mod faults;
mod imported;
mod race;
mod rig;
mod seen;
mod speed;
