//! Joins that let others run: a stop is heard between any two batches.
//!
//! DataFusion makes leaves and exchanges cooperative. A join makes any number of batches from one batch of a leaf, so that
//! joins upon joins would keep their thread until the end. Invariant: each batch of a join counts on its task's budget.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::SchedulingType;

/// The last rule of the optimizer.
#[derive(Debug)]
pub(super) struct JoinsYield;

impl PhysicalOptimizerRule for JoinsYield {
    fn name(&self) -> &'static str {
        "JoinsYield"
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|plan| {
            let joins = plan.children().len() > 1;
            Ok(if joins && plan.properties().scheduling_type == SchedulingType::NonCooperative {
                Transformed::yes(Arc::new(CooperativeExec::new(plan)) as _)
            } else {
                Transformed::no(plan)
            })
        });
        Ok(wrapped?.data)
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::SessionStateBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use futures::StreamExt;

    use super::*;

    /// Joins upon joins make 10^15 rows of ten, and ask no leaf meanwhile.
    #[tokio::test]
    async fn joins_of_joins_give_up_their_thread() {
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(SessionConfig::new().with_target_partitions(1))
            .with_physical_optimizer_rule(Arc::new(JoinsYield))
            .build();
        let session = SessionContext::new_with_state(state);
        session
            .sql("create view ten as select * from (values (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)) t(x)")
            .await
            .unwrap();
        for (join, on) in [("cross join", ""), ("join", "on t0.x <> 10 - ")] {
            let joins = (1..15).map(|at| match on {
                "" => format!(" {join} ten t{at}"),
                on => format!(" {join} ten t{at} {on}t{at}.x"),
            });
            let sql = format!("select sum(t0.x) from ten t0{}", joins.collect::<String>());
            let mut rows = session.sql(&sql).await.unwrap().execute_stream().await.unwrap();
            assert!(futures::poll!(rows.next()).is_pending(), "{sql}");
        }
    }
}
