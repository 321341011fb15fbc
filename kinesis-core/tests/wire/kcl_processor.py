"""A record processor of the Kinesis Client Library: tells, one JSON line an event, what happens to it.

The lines go to the file that KCL_EVENTS names; a processor is a process of its own for each shard.
"""

import json
import os

from amazon_kclpy import kcl
from amazon_kclpy.v3 import processor


class Teller(processor.RecordProcessorBase):
    def tell(self, event, **more):
        line = json.dumps({"event": event, "shard": self.shard, **more}) + "\n"
        with open(os.environ["KCL_EVENTS"], "ab", buffering=0) as events:
            events.write(line.encode())

    def initialize(self, input):
        self.shard = input.shard_id
        self.tell("initialize")

    def process_records(self, input):
        for record in input.records:
            self.tell("record", data=record.binary_data.decode(), sequence=record.sequence_number)
        input.checkpointer.checkpoint()

    def lease_lost(self, input):
        self.tell("lease_lost")

    def shard_ended(self, input):
        self.tell("shard_ended")
        input.checkpointer.checkpoint()

    def shutdown_requested(self, input):
        input.checkpointer.checkpoint()
        self.tell("shutdown_requested")


if __name__ == "__main__":
    kcl.KCLProcess(Teller()).run()
