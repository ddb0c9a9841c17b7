"""Errors that callers of the service see; programs read `code`.

`requests` has what is wrong with a request, `conflicts` what contradicts the current state,
`systems` what Ray, MLflow and the database refuse or do not answer.

TandemError
├── NotFound         run_not_found, attempt_not_found, sweep_not_found, report_not_found,
│                    dataset_not_found, teacher_not_found, preset_not_found, token_not_found,
│                    dependency_failed, checkpoint_missing, statistics_not_found,
│                    autopilot_not_found
├── Unauthenticated  unauthenticated
├── Forbidden        insufficient_role, project_forbidden, priority_forbidden, replace_forbidden
├── Conflict         invalid_transition, invalid_sweep_transition, sweep_log_conflict,
│                    driver_superseded, attempt_superseded, lease_lost, idempotency_key_reused,
│                    name_taken, nothing_to_promote, nothing_to_repeat, files_deleted,
│                    methods_unknown, invalid_autopilot_transition
├── token_refused, spec_refused, sweep_entry_refused, path_refused, value_refused,
│   log_chunk_too_large, file_too_large, schema_unknown, backup_refused, job_refused,
│   cluster_fault, tracker_refused
└── Unreachable      cluster_unreachable, tracker_unreachable, database_unreachable
"""
