//! Which variant is chosen, with programs that fail as the real ones do where the kernel has no part for them.

use super::scripts::Script;
use super::*;
use crate::choose::decide;

/// Two programs of one variant, and what stands for its kernel.
struct Double {
    main: Script,
    _save: Script,
}

impl Double {
    /// Both say this, with this exit code.
    fn new(says: &str, code: u8) -> Self {
        let text = format!("echo \"{}\" >&2; exit {code}", says.replace('`', "\\`"));
        let main = script(&text);
        let save = Script::at(format!("{}-save", main.path()).into(), &text);
        Self { main, _save: save }
    }

    fn programs(&self, variant: Variant) -> Programs {
        Programs { variant, ..programs(self.main.path()) }
    }
}

fn chosen(nft: &Double, legacy: &Double, plain: Option<Variant>) -> Variant {
    let of = |variant, double: &Double| (variant, vec![double.programs(variant)]);
    decide(
        vec![of(Variant::Nft, nft), of(Variant::Legacy, legacy)],
        || plain,
        |programs| programs.probe("nat"),
    )
}

/// As iptables 1.8.9 fails: no such protocol of netlink (seen on a kernel that was built without it), no `nf_tables` in it.
const NO_NF_TABLES: [(&str, u8); 2] = [
    ("iptables: Failed to initialize nft: Protocol not supported", 1),
    ("iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Invalid argument", 4),
];

/// The same of a kernel without `ip_tables`, with and without the modules of another one at hand.
const NO_IP_TABLES: [(&str, u8); 2] = [
    (
        "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)\n\
         Perhaps iptables or your kernel needs to be upgraded.",
        3,
    ),
    (
        "modprobe: FATAL: Module ip_tables not found in directory /lib/modules/6.1.176\n\
         iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)\n\
         Perhaps iptables or your kernel needs to be upgraded.",
        3,
    ),
];

#[test]
fn the_variant_that_the_kernel_has_is_chosen() {
    let works = Double::new("", 0);
    for plain in [None, Some(Variant::Nft), Some(Variant::Legacy)] {
        for (says, code) in NO_NF_TABLES {
            assert_eq!(chosen(&Double::new(says, code), &works, plain), Variant::Legacy, "{says}");
        }
        for (says, code) in NO_IP_TABLES {
            assert_eq!(chosen(&works, &Double::new(says, code), plain), Variant::Nft, "{says}");
        }
        assert_eq!(chosen(&works, &works, plain), plain.unwrap_or(Variant::Nft));
    }
}

/// It cannot be used here, whatever the reason, and says which.
#[test]
fn what_does_not_work_is_quoted() {
    for (says, code) in NO_NF_TABLES.into_iter().chain(NO_IP_TABLES) {
        let error = Double::new(says, code).programs(Variant::Nft).try_out().unwrap_err();
        assert!(matches!(error, SyncError::Unsupported(_)), "{error}");
        let reason = says.rsplit(": ").next().unwrap().lines().next().unwrap();
        assert!(error.to_string().contains(reason), "{error}");
    }
    // Without its protocol the program does not even say its version, and is no candidate.
    let (says, code) = NO_NF_TABLES[0];
    let reason = version_of(Double::new(says, code).main.path()).unwrap_err();
    assert!(reason.contains("Failed to initialize nft: Protocol not supported"), "{reason}");
}

/// A lock shows a program that works with it.
#[test]
fn a_held_lock_counts_as_working() {
    let busy = Double::new("Another app is currently holding the xtables lock; waiting", 4);
    let (says, code) = NO_NF_TABLES[0];
    assert_eq!(chosen(&Double::new(says, code), &busy, Some(Variant::Nft)), Variant::Legacy);
}

#[test]
fn a_program_that_hangs_is_not_waited_for() {
    let hangs = script("sleep 1000");
    let reason = version::version_within(hangs.path(), Duration::from_millis(200)).unwrap_err();
    assert!(reason.contains("had not ended after 200ms"), "{reason}");
}

/// What the programs say is read, so their language is always the same.
#[test]
fn the_language_of_the_node_does_not_matter() {
    let says = script("echo \"chain X does not exist in locale $LC_ALL\" >&2; exit 1");
    let mut command = Command::new(says.path());
    command.envs([("LANG", "de_DE.UTF-8"), ("LC_ALL", "xx_YY.no-such"), ("LC_MESSAGES", "fr_FR")]);
    let (status, text) = programs("x").wait_for("x", &mut command, &[], &mut |_| ()).unwrap();
    assert_eq!((status.code(), text.as_str()), (Some(1), "chain X does not exist in locale C\n"));
}

/// A script may choose a variant each time; a program is what it was until its file is another one.
#[test]
fn answers_are_kept_for_as_long_as_a_program_is_the_same() {
    let file = script("echo 'iptables v1.8.9 (nf_tables)'");
    let installed = || version::Installed::of(file.path());
    assert_eq!(installed(), None);
    let replace = |program: &str| {
        std::fs::remove_file(file.path()).unwrap();
        std::fs::copy(program, file.path()).unwrap();
    };
    replace("/bin/true");
    let first = installed();
    assert!(first.is_some());
    assert_eq!(installed(), first);
    replace("/bin/false");
    assert!(installed().is_some_and(|second| Some(second) != first));
}
