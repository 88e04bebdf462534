//! The pod of the DaemonSet, played from its manifest.
