//! The restrictions of the systemd unit. `systemd-analyze` has one number for all of them, which hardly changes without one.

/// What the service may not do, and what it may use at most.
const RESTRICTIONS: &str = "\
    AmbientCapabilities= CapabilityBoundingSet= DevicePolicy=closed Group=canopsis KeyringMode=private LimitCORE=0 \
    LockPersonality=yes MemoryDenyWriteExecute=yes MemoryMax=512M NoNewPrivileges=yes PrivateDevices=yes PrivateIPC=yes \
    PrivateMounts=yes PrivateTmp=yes PrivateUsers=yes ProcSubset=pid ProtectClock=yes ProtectControlGroups=yes ProtectHome=yes \
    ProtectHostname=yes ProtectKernelLogs=yes ProtectKernelModules=yes ProtectKernelTunables=yes ProtectProc=invisible \
    ProtectSystem=strict RemoveIPC=yes RestrictNamespaces=yes RestrictRealtime=yes RestrictSUIDSGID=yes \
    SystemCallArchitectures=native SystemCallFilter=@system-service TasksMax=4096 UMask=0077 User=canopsis";

#[test]
fn the_unit_has_each_restriction_once() {
    let unit = include_str!("../../canopsis-connector-prometheus.service");
    let others = [
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "SystemCallFilter=~@privileged @resources",
        "ExecStart=/usr/bin/canopsis-connector-prometheus $ARGS",
        "RestartPreventExitStatus=2",
        "WatchdogSec=60",
    ];
    for restriction in RESTRICTIONS.split_whitespace().chain(others) {
        let count = unit.lines().filter(|line| *line == restriction).count();
        assert_eq!(count, 1, "lines {restriction} in the unit");
        // A later line of this name would change it.
        let (name, _) = restriction.split_once('=').unwrap();
        let prefix = format!("{name}=");
        let lines = unit.lines().filter(|line| line.starts_with(&prefix));
        let expected = if name == "SystemCallFilter" { 2 } else { 1 };
        assert_eq!(lines.count(), expected, "lines of {name} in the unit");
    }
}
