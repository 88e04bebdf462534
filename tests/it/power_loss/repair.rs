//! `repair`, killed or with a power loss at any of its steps.

use super::world::{World, fault, prepared};
use crate::conformance::host;
use crate::support::cached::CachedDisk;
use hereabouts::retry::Deadline;
use hereabouts::store::disk::Disk;
use hereabouts::store::file::FileStore;
use hereabouts::store::file::upkeep::finding::Problem;
use std::path::Path;
use std::time::Duration;

fn repair_all(store: &FileStore<CachedDisk>) {
    let deadline = Deadline::after(Duration::from_secs(20));
    for finding in store.verify(deadline).unwrap().findings {
        store.repair(&finding, deadline).unwrap();
    }
}

type Damage = fn(&CachedDisk);

/// Damages that `repair` repairs.
const DAMAGES: &[(&str, Damage)] = &[
    ("a lost entry", |disk| disk.unlink(Path::new("nodes/n1/net1/two@eth0.0")).unwrap()),
    ("a lost name", |disk| disk.unlink(Path::new("scopes/@/10.0.0.0_24/10.0.0.4")).unwrap()),
    ("two copies", |disk| {
        for name in ["by@eth0.0", "two@eth0.1"] {
            let path = Path::new("nodes/n1/net1").join(name);
            let bytes = disk.read(&path).unwrap().bytes;
            disk.unlink(&path).unwrap();
            disk.create(&path, &bytes).unwrap();
        }
    }),
    ("a half-written entry", |disk| {
        disk.create(Path::new("nodes/n1/net1/c9@eth0.0"), b"{").unwrap();
    }),
    ("a lying hint", |disk| {
        disk.create(Path::new("scopes/@/full"), b"4 a0000 a0000 ff 0 0 0\n").unwrap();
    }),
];

#[test]
fn repair_may_lose_power_or_be_killed_at_any_step() {
    let mut checked = 0;
    for (what, damage) in DAMAGES {
        let mut world = prepared();
        let disk = world.disk();
        damage(&disk);
        world.image = disk.image().after_power_loss(1, 0).remove(0);
        let store = FileStore::on(world.disk(), host("n1"));
        repair_all(&store);
        let history = store.disk().history();
        assert!(!history.is_empty(), "{what} was not repaired");
        // What was reported as repaired stays repaired after a power loss. Harmless problems may
        // come back.
        for image in store.disk().image().after_power_loss(400, 0) {
            let store = FileStore::on(CachedDisk::new(image, world.clock + 1000), host("n1"));
            let found = store.verify(Deadline::after(Duration::from_secs(20))).unwrap().findings;
            assert!(found.iter().all(|finding| ![Problem::Unindexed, Problem::Split].contains(&finding.problem)), "{what}: {found:?}");
        }
        // A kill leaves what the disk shows, a power loss what it may show.
        let states = history.iter().enumerate().flat_map(|(step, image)| {
            image.after_power_loss(400, step as u64).into_iter().chain([image.clone()])
        });
        for image in states {
            checked += 1;
            let store = FileStore::on(CachedDisk::new(image, world.clock + 1000), host("n1"));
            repair_all(&store);
            let mended = World { image: store.disk().image(), ..world.clone() };
            assert_eq!(fault(&mended), None, "{what}");
            assert_eq!(
                store.verify(Deadline::after(Duration::from_secs(20))).unwrap().findings,
                [],
                "{what}"
            );
        }
    }
    println!("{checked} states");
}
