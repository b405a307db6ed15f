"""A U-Net and the loop that trains it, from the pieces: 02_train_a_unet.py [steps]."""

import sys

import tinyseg as ts
import tinyseg.functional as F
from tinyseg.data import ColorJitter, Compose, DataLoader, HorizontalFlip, StreetScenes
from tinyseg.metrics import ConfusionMatrix
from tinyseg.models import build
from tinyseg.optim import AdamW, Poly

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
ts.manual_seed(0)
scenes = StreetScenes(128, size=(64, 96))
loader = DataLoader(scenes, batch_size=8, transform=Compose(HorizontalFlip(), ColorJitter()), seed=0)
net = build("unet", in_channels=3, num_classes=len(scenes.classes), base_channels=8)
optimizer, schedule = AdamW(net.parameters(), lr=5e-3), Poly(steps)

step = 0
while step < steps:
    for batch in loader.epoch(step // len(loader)):
        schedule.set(optimizer, step)
        optimizer.zero_grad()
        scores = net(ts.Tensor(batch.images))                            # (N, classes, H, W)
        loss = F.cross_entropy(scores, ts.Tensor(batch.masks), ignore_index=255)
        loss.backward()
        optimizer.step()
        step += 1
        if step % 10 == 0 or step == steps:
            print(f"step {step:3}  loss {loss.item():.3f}")
        if step == steps:
            break

net.eval()
confusion = ConfusionMatrix(len(scenes.classes), classes=scenes.classes)
with ts.no_grad():
    for batch in DataLoader(StreetScenes(16, (64, 96), first=128), 8, shuffle=False).epoch(0):
        confusion.update(batch.masks, net(ts.Tensor(batch.images)).argmax(1).numpy())
print(f"mean IoU on scenes it has never seen: {confusion.mean_iou:.3f}")
